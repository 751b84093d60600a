-- Verdicts at a budget: which attack a sample fell to, and who still stands.

create table robustness (
    measurement_id integer not null,
    sample_id bigint not null,
    attack text not null,
    place tinyint not null,
    outcome outcome not null,
    epsilon real,
    prediction integer,
    clean_prediction integer,
    evaluations real not null,
    known boolean not null,
    adopted boolean not null,
    run_id integer not null,
    primary key (measurement_id, sample_id, place),
    check ((outcome = 'not_found') = (epsilon is null)),
    check (outcome <> 'misclassified' or epsilon = 0),
    check (epsilon >= 0 and isfinite(epsilon)),
    check (not known or outcome = 'found')
);
comment on table robustness is 'What an attack at a budget did to a sample: one row for each attack of the ensemble that tried the sample. A sample that has fallen is not tried again.';
comment on column robustness.measurement_id is 'Measurement: measurements.measurement_id; the settings of its attack hold the budget and the attacks of the ensemble.';
comment on column robustness.sample_id is 'Sample: samples.sample_id.';
comment on column robustness.attack is 'The attack that tried: apgd-ce, square, pgd; where known: the attack whose adversarial was in the store.';
comment on column robustness.place is 'Place of the attack in the ensemble, counted from 0; -1 where known.';
comment on column robustness.outcome is 'misclassified: the clean sample is wrong already; found: it fell to a verified adversarial within the budget; not_found: it stands.';
comment on column robustness.epsilon is 'Norm of that adversarial, at most the budget, seldom the smallest; 0 where misclassified, NULL where it stands.';
comment on column robustness.prediction is 'Class of the adversarial; NULL where it stands.';
comment on column robustness.clean_prediction is 'Class of the clean sample; NULL where a logit is not a number, which counts as wrong, or where known.';
comment on column robustness.evaluations is 'Forward-backward passes that this attack spent on the sample; a forward pass alone counts a third.';
comment on column robustness.known is 'Whether another measurement in this store had found the adversarial, so that nothing was attacked.';
comment on column robustness.adopted is 'Whether it was copied from another selection of the same samples instead of tried anew.';
comment on column robustness.run_id is 'Run that tried it; where known: the run that found the adversarial.';

create view verdicts as
with folded as (
    select
        measurement_id,
        sample_id,
        count(*) filter (where not known) as tried,
        bool_or(outcome <> 'not_found' or (clean_prediction is null and not known)) as fallen,
        -- what the ensemble broke itself goes before what was known
        min_by(attack, (known, place)) filter (where outcome = 'found') as broken_by,
        min_by(epsilon, (known, place)) filter (where outcome <> 'not_found') as epsilon,
        min_by(prediction, (known, place)) filter (where outcome <> 'not_found') as prediction,
        bool_or(outcome = 'misclassified' or (clean_prediction is null and not known)) as wrong,
        bool_or(known) as known,
        bool_or(not known and (outcome <> 'not_found' or clean_prediction is null)) as fallen_alone,
        sum(evaluations) filter (where not known) as evaluations
    from robustness
    group by measurement_id, sample_id
)
select
    f.measurement_id,
    k.name as checkpoint,
    d.name as data,
    a.norm,
    (a.settings ->> 'budget')::double as budget,
    a.name as attack,
    f.sample_id,
    s.label,
    d.classes[s.label + 1] as class_name,
    case
        when f.fallen then false
        when f.tried = len(string_split(a.settings ->> 'attacks', ' ')) then true
    end as robust,
    case when f.wrong then 'clean' else f.broken_by end as broken_by,
    f.epsilon,
    f.prediction,
    f.known and not f.fallen_alone as known,
    case
        when f.fallen_alone then false
        when f.tried = len(string_split(a.settings ->> 'attacks', ' ')) then true
    end as robust_to_this_attack,
    coalesce(f.evaluations, 0) as evaluations,
    s.source
from folded f
join measurements m using (measurement_id)
join checkpoints k on k.checkpoint_id = m.checkpoint_id
join datasets d on d.dataset_id = m.dataset_id
join attacks a on a.attack_id = m.attack_id
join samples s on s.dataset_id = m.dataset_id and s.sample_id = f.sample_id;
comment on view verdicts is 'Whether each sample is robust at a budget, and what it fell to: one row a sample and evaluation.';
comment on column verdicts.measurement_id is 'Measurement: measurements.measurement_id.';
comment on column verdicts.checkpoint is 'Name of the network.';
comment on column verdicts.data is 'Name of the data set.';
comment on column verdicts.norm is 'Norm of the budget.';
comment on column verdicts.budget is 'Radius on the [0, 1] scale.';
comment on column verdicts.attack is 'Attack or ensemble: autoattack, pgd.';
comment on column verdicts.sample_id is 'Index in the untouched data set.';
comment on column verdicts.label is 'True class.';
comment on column verdicts.class_name is 'Name of the true class.';
comment on column verdicts.robust is 'Whether no adversarial within the budget is known, neither from this attack nor, where known, from another; NULL where the run ended before the verdict.';
comment on column verdicts.broken_by is 'Attack that broke the sample: one of the ensemble, another of the store (known), or clean where no attack was needed; NULL where it stands.';
comment on column verdicts.epsilon is 'Norm of the adversarial that broke it, at most the budget; 0 where clean, NULL where it stands.';
comment on column verdicts.prediction is 'Class of that adversarial; NULL where it stands.';
comment on column verdicts.known is 'Whether it is broken by another measurement in this store alone: the attack was spared, or failed.';
comment on column verdicts.robust_to_this_attack is 'Whether it stands against this attack alone; NULL where the attack was spared because the sample was known to be broken, or the run ended before.';
comment on column verdicts.evaluations is 'Forward-backward passes spent on the sample, all attacks of the ensemble together.';
comment on column verdicts.source is 'File of the sample; NULL where there is none.';

create view robust_accuracy as
with counted as (
    select
        measurement_id, checkpoint, data, norm, budget, attack,
        count(*) as decided,
        count(*) filter (where robust) as robust,
        count(*) filter (where known) as known,
        count(*) filter (where broken_by = 'clean') as wrong,
        -- what one sample fell to alone, and a spared sample has no verdict of its own
        case when count(robust_to_this_attack) = count(*) then count(*) filter (where robust_to_this_attack) end as robust_to_this_attack,
        sum(evaluations) as evaluations
    from verdicts
    where robust is not null
    group by all
)
select
    c.measurement_id,
    c.checkpoint,
    c.data,
    c.norm,
    c.budget,
    c.attack,
    d.n,
    c.decided,
    1 - c.wrong / c.decided as clean_accuracy,
    c.robust / c.decided as robust_accuracy,
    -- Wilson's interval at 95 %
    greatest(0, (c.robust + 1.920729410347062 - 1.959963984540054 * sqrt(c.robust * (1 - c.robust / c.decided)
        + 0.960364705173531)) / (c.decided + 3.841458820694124)) as low,
    least(1, (c.robust + 1.920729410347062 + 1.959963984540054 * sqrt(c.robust * (1 - c.robust / c.decided)
        + 0.960364705173531)) / (c.decided + 3.841458820694124)) as high,
    c.known,
    c.robust_to_this_attack / c.decided as robust_accuracy_to_this_attack,
    c.evaluations
from counted c
join measurements m using (measurement_id)
join datasets d on d.dataset_id = m.dataset_id;
comment on view robust_accuracy is 'Robust accuracy of every evaluation at a budget: one row an evaluation. From epsilons: security_curves.';
comment on column robust_accuracy.measurement_id is 'Measurement: measurements.measurement_id.';
comment on column robust_accuracy.checkpoint is 'Name of the network.';
comment on column robust_accuracy.data is 'Name of the data set.';
comment on column robust_accuracy.norm is 'Norm of the budget.';
comment on column robust_accuracy.budget is 'Radius on the [0, 1] scale.';
comment on column robust_accuracy.attack is 'Attack or ensemble.';
comment on column robust_accuracy.n is 'Samples selected.';
comment on column robust_accuracy.decided is 'Samples with a verdict; fewer than n where a run ended early, and then a biased part: what falls is decided first.';
comment on column robust_accuracy.clean_accuracy is 'Share of the decided samples that are right without any perturbation.';
comment on column robust_accuracy.robust_accuracy is 'Share of the decided samples without a known adversarial within the budget: an upper bound.';
comment on column robust_accuracy.low is 'Lower end of its Wilson interval at 95 %.';
comment on column robust_accuracy.high is 'Upper end of its Wilson interval at 95 %.';
comment on column robust_accuracy.known is 'Samples that only other measurements in this store broke.';
comment on column robust_accuracy.robust_accuracy_to_this_attack is 'The same by this attack alone; NULL where it was spared known samples.';
comment on column robust_accuracy.evaluations is 'Forward-backward passes spent, all samples and attacks together.';
