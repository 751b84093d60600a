create view verdicts as
with folded as (
    select
        measurement_id,
        sample_id,
        count(*) filter (where not known_broken) as tried,
        bool_or(outcome <> 'not_found' or (clean_prediction is null and not known_broken)) as fallen,
        -- what the ensemble broke itself goes before what was known
        min_by(attack, (known_broken, attack_index)) filter (where outcome = 'found') as broken_by,
        min_by(epsilon, (known_broken, attack_index)) filter (where outcome <> 'not_found') as epsilon,
        min_by(prediction, (known_broken, attack_index)) filter (where outcome <> 'not_found') as prediction,
        bool_or(outcome = 'misclassified' or (clean_prediction is null and not known_broken)) as wrong,
        bool_or(known_broken) as known_broken,
        bool_or(not known_broken and (outcome <> 'not_found' or clean_prediction is null)) as fallen_alone,
        sum(evaluations) filter (where not known_broken) as evaluations
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
    f.known_broken and not f.fallen_alone as known_broken,
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
comment on view verdicts is 'Whether each sample is robust at a budget, and what broke it: one row a sample and evaluation.';
comment on column verdicts.measurement_id is 'Measurement: measurements.measurement_id.';
comment on column verdicts.checkpoint is 'Name of the network.';
comment on column verdicts.data is 'Name of the data set.';
comment on column verdicts.norm is 'Norm of the budget.';
comment on column verdicts.budget is 'Radius on the [0, 1] scale.';
comment on column verdicts.attack is 'Attack or ensemble: autoattack, pgd.';
comment on column verdicts.sample_id is 'Index in the untouched data set.';
comment on column verdicts.label is 'True class.';
comment on column verdicts.class_name is 'Name of the true class.';
comment on column verdicts.robust is 'Whether no adversarial within the budget is known, neither from this attack nor, where known_broken, from another; NULL where the run ended before the verdict.';
comment on column verdicts.broken_by is 'Attack that broke the sample: one of the ensemble, another of the store (known_broken), or clean where no attack was needed; NULL where it stands.';
comment on column verdicts.epsilon is 'Norm of the adversarial that broke it, at most the budget; 0 where clean, NULL where it stands.';
comment on column verdicts.prediction is 'Class of that adversarial; NULL where it stands.';
comment on column verdicts.known_broken is 'Whether it is broken by another measurement in this store alone: the attack was spared, or failed.';
comment on column verdicts.robust_to_this_attack is 'Whether it stands against this attack alone; NULL where the attack was spared because the sample was known to be broken, or the run ended before.';
comment on column verdicts.evaluations is 'Forward-backward passes spent on the sample, all attacks of the ensemble together.';
comment on column verdicts.source is 'File of the sample; NULL where there is none.';
