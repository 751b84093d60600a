-- What both this store and the other one, attached as other, know of a sample: of the same network, samples and attack.
create or replace temp table compared as
with networks as (
    select c.checkpoint_id as ours, o.checkpoint_id as theirs, c.name as network
    from checkpoints c join other.checkpoints o using (fingerprint)
),
selections as (
    select d.dataset_id as ours, o.dataset_id as theirs from datasets d join other.datasets o using (fingerprint)
),
attacked as (
    select m.measurement_id as ours, p.measurement_id as theirs, network, a.name as attack
    from other.measurements p
    join networks n on n.theirs = p.checkpoint_id
    join selections s on s.theirs = p.dataset_id
    join other.attacks b on b.attack_id = p.attack_id
    join attacks a on a.fingerprint = b.fingerprint
    join measurements m on m.checkpoint_id = n.ours and m.dataset_id = s.ours and m.attack_id = a.attack_id
),
both_known as (
    select
        'epsilon' as what, network, attack, b.sample_id,
        b.outcome::text as outcome, a.outcome::text as outcome_again, b.epsilon, a.epsilon as epsilon_again
    from attacked
    join epsilons b on b.measurement_id = ours
    join other.epsilons a on a.measurement_id = theirs and a.sample_id = b.sample_id
    union all
    select
        'robustness', network, b.attack, b.sample_id, b.outcome::text, a.outcome::text, b.epsilon, a.epsilon
    from attacked
    join robustness b on b.measurement_id = ours and not b.known_broken
    join other.robustness a
        on a.measurement_id = theirs and a.sample_id = b.sample_id and a.attack_index = b.attack_index
    union all
    select
        'correction', network, attack, b.sample_id, b.outcome, a.outcome, b.correction, a.correction
    from attacked
    join corrections b on b.measurement_id = ours
    join other.corrections a on a.measurement_id = theirs and a.sample_id = b.sample_id
    union all
    select
        'lower bound', network, b.norm::text, b.sample_id, 'proved', 'proved', b.epsilon_lower, a.epsilon_lower
    from networks n
    join lower_bounds b on b.checkpoint_id = n.ours
    join selections s on s.ours = b.dataset_id
    join other.lower_bounds a
        on a.checkpoint_id = n.theirs and a.dataset_id = s.theirs and a.norm::text = b.norm::text
        and a.sample_id = b.sample_id
    union all
    select
        'prediction', network, null, b.sample_id,
        coalesce('class ' || b.prediction, 'no class'), coalesce('class ' || a.prediction, 'no class'), null, null
    from networks n
    join predictions b on b.checkpoint_id = n.ours
    join selections s on s.ours = b.dataset_id
    join other.predictions a
        on a.checkpoint_id = n.theirs and a.dataset_id = s.theirs and a.sample_id = b.sample_id
)
select
    *,
    case
        when outcome <> outcome_again then 'different'
        when epsilon is not distinct from epsilon_again then 'same'
        when abs(epsilon - epsilon_again) <= $tolerance * greatest(epsilon, epsilon_again) then 'rounding'
        else 'different'
    end as verdict
from both_known
