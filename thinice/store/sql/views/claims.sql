create view claims as
with adversarials_in_hand as (
    -- whatever attack found them
    select m.checkpoint_id, m.dataset_id, a.norm, e.sample_id, e.epsilon
    from (
        select measurement_id, sample_id, epsilon from epsilons
        union all
        select measurement_id, sample_id, epsilon from robustness
    ) as e
    join measurements m using (measurement_id)
    join attacks a using (attack_id)
    where e.epsilon is not null
    union all
    -- those of a dense network that fool a pruned one
    select c.pruned_checkpoint_id, m.dataset_id, a.norm, e.sample_id, e.epsilon
    from transfers t
    join comparisons c using (comparison_id)
    join measurements m using (measurement_id)
    join attacks a using (attack_id)
    join samples s on s.dataset_id = m.dataset_id and s.sample_id = t.sample_id
    join epsilons e on e.measurement_id = m.measurement_id and e.sample_id = t.sample_id
    where t.prediction <> s.label and e.outcome = 'found'
),
reached as (
    -- the nearest, on whatever selection of the same samples
    select h.checkpoint_id, h.norm, s.sample_id, s.label, s.digest, min(h.epsilon) as epsilon
    from adversarials_in_hand h
    join samples s on s.dataset_id = h.dataset_id and s.sample_id = h.sample_id
    group by all
),
proved as (
    select b.checkpoint_id, b.norm, s.sample_id, s.label, s.digest, max(b.epsilon_lower) as epsilon_lower
    from lower_bounds b
    join samples s on s.dataset_id = b.dataset_id and s.sample_id = b.sample_id
    group by all
)
select
    k.name as checkpoint,
    d.name as data,
    c.norm,
    c.sample_id,
    c.verifier,
    c.claimed_lower,
    c.claimed_upper,
    r.epsilon,
    b.epsilon_lower,
    case when r.epsilon is not null then c.claimed_lower > r.epsilon end as lower_refuted,
    case when b.epsilon_lower is not null and c.claimed_upper is not null then c.claimed_upper < b.epsilon_lower end as upper_refuted,
    c.seconds,
    c.source,
    c.checkpoint_id,
    c.dataset_id
from claimed_bounds c
join checkpoints k using (checkpoint_id)
join datasets d using (dataset_id)
join samples s on s.dataset_id = c.dataset_id and s.sample_id = c.sample_id
left join reached r
    on r.checkpoint_id = c.checkpoint_id
    and r.norm = c.norm
    and r.sample_id = c.sample_id
    and r.label = s.label
    and r.digest = s.digest
left join proved b
    on b.checkpoint_id = c.checkpoint_id
    and b.norm = c.norm
    and b.sample_id = c.sample_id
    and b.label = s.label
    and b.digest = s.digest;
comment on view claims is 'What other programs claim of the distance to the boundary, beside what was found and proved here: one row a claim.';
comment on column claims.checkpoint is 'Name of the network.';
comment on column claims.data is 'Name of the data set.';
comment on column claims.norm is 'Norm of all radii.';
comment on column claims.sample_id is 'Index in the untouched data set.';
comment on column claims.verifier is 'Program that claims it.';
comment on column claims.claimed_lower is 'Radius within which there shall be no adversarial; 0: none is claimed.';
comment on column claims.claimed_upper is 'Radius within which there shall be one, or the largest that was tried; NULL where the file has none.';
comment on column claims.epsilon is 'Found: the nearest adversarial in this store, of any attack in this norm; 0 where the clean sample is misclassified, NULL where there is none.';
comment on column claims.epsilon_lower is 'Proved here; NULL where nothing was tried.';
comment on column claims.lower_refuted is 'Whether an adversarial lies within claimed_lower, so that the claim is false of this network; NULL where no adversarial is in hand.';
comment on column claims.upper_refuted is 'Whether claimed_upper lies within what is proved here to hold no adversarial; NULL where one of them is missing.';
comment on column claims.seconds is 'What the claim took; NULL where the file does not say.';
comment on column claims.source is 'File that it was read from.';
comment on column claims.checkpoint_id is 'Network: checkpoints.checkpoint_id.';
comment on column claims.dataset_id is 'Selection of samples: datasets.dataset_id.';
