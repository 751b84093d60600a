-- A table that came after the first version: made where a store lacks it.

create table if not exists corrections (
    measurement_id integer not null,
    sample_id bigint not null,
    outcome text not null,
    correction real,
    evaluations real not null,
    converged boolean not null,
    found_by found_by,
    failure_reason failure_reason,
    adopted boolean not null,
    run_id integer not null,
    primary key (measurement_id, sample_id),
    check (outcome in ('corrected', 'not_corrected')),
    check ((outcome = 'not_corrected') = (correction is null)),
    check (correction > 0 and isfinite(correction))
);
comment on table corrections is 'How far behind the boundary of a pruned network the samples lie that it has wrong and the dense network right: the distance to the nearest input found that it has right, an upper bound. Measured with distances to both boundaries; no epsilon, whose rows stay 0 for them.';
comment on column corrections.measurement_id is 'Measurement of the pruned network: measurements.measurement_id.';
comment on column corrections.sample_id is 'Sample: samples.sample_id.';
comment on column corrections.outcome is 'corrected: correction is the norm of a verified perturbation; not_corrected: none was found.';
comment on column corrections.correction is 'Smallest norm of a perturbation found that makes the network give the sample its label, on the [0, 1] scale; NULL where not corrected.';
comment on column corrections.evaluations is 'Forward-backward passes spent on the sample; a forward pass alone counts a third.';
comment on column corrections.converged is 'Whether the search had converged before it stopped; false where the attack does not say.';
comment on column corrections.found_by is 'What found the input: the search, or a fall-back (float64, losses, starts, random); NULL where not corrected.';
comment on column corrections.failure_reason is 'Why the search itself came back empty, also where a fall-back then found; NULL where it did not, or for no reason that shows.';
comment on column corrections.adopted is 'Whether it was copied from another selection of the same samples instead of measured anew.';
comment on column corrections.run_id is 'Run that measured it.';
