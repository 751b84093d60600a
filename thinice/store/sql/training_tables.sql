-- Tables and columns that came after the first version: made where a store lacks them.

alter table checkpoints add column if not exists weights bigint;
comment on column checkpoints.weights is 'Number of prunable weights, zeros among them; NULL where an earlier version wrote the row.';

create sequence if not exists training_ids;

create table if not exists trainings (
    training_id integer primary key default nextval('training_ids'),
    fingerprint text not null unique,
    name text not null,
    dataset_id integer not null,
    architecture text not null,
    objective text not null,
    recipe json not null,
    parent text,
    checkpoint_id integer,
    chosen_epoch integer,
    notes text[],
    run_id integer not null,
    created timestamp not null
);
comment on table trainings is 'Networks that were trained: one row for each different training, finished or not.';
comment on column trainings.training_id is 'Key.';
comment on column trainings.fingerprint is 'Hash of all that decides the result: recipe, objective, masks, samples, structure and first weights of the network.';
comment on column trainings.name is 'Name of the network.';
comment on column trainings.dataset_id is 'Samples, those held out included: datasets.dataset_id.';
comment on column trainings.architecture is 'Name of the architecture.';
comment on column trainings.objective is 'What was minimised: natural, fast, pgd, trades, mart.';
comment on column trainings.recipe is 'All settings of recipe and objective, as a JSON object.';
comment on column trainings.parent is 'Fingerprint of the network that it went on from; NULL for a new one.';
comment on column trainings.checkpoint_id is 'The network that came out: checkpoints.checkpoint_id; NULL until training ends.';
comment on column trainings.chosen_epoch is 'Epoch whose weights the network has, chosen on held-out samples or the last good one; NULL until training ends.';
comment on column trainings.notes is 'Why training ended early, or went back; NULL until training ends.';
comment on column trainings.run_id is 'Run that began it.';
comment on column trainings.created is 'When it was begun, UTC.';

create table if not exists epochs (
    training_id integer not null,
    epoch integer not null,
    learning_rate double not null,
    loss double not null,
    accuracy double not null,
    validation_loss double,
    validation_accuracy double,
    robust_accuracy double,
    seconds double not null,
    run_id integer not null,
    primary key (training_id, epoch)
);
comment on table epochs is 'The learning curves of trainings: one row an epoch.';
comment on column epochs.training_id is 'Training: trainings.training_id.';
comment on column epochs.epoch is 'Number of the epoch, from 1.';
comment on column epochs.learning_rate is 'Learning rate of its first step.';
comment on column epochs.loss is 'Mean of what was minimised, over the epoch.';
comment on column epochs.accuracy is 'Share of training samples that were right as the objective saw them, augmented and crafted, over the epoch.';
comment on column epochs.validation_loss is 'Mean cross-entropy on held-out samples after the epoch, in nats; NULL where none were held out.';
comment on column epochs.validation_accuracy is 'Accuracy on held-out samples after the epoch; NULL where none were held out.';
comment on column epochs.robust_accuracy is 'Share of a few held-out samples (training samples where none were held out) that ten steps of ascent within the objective''s budget do not break; NULL where the objective has no budget.';
comment on column epochs.seconds is 'Time that the epoch took, with what was measured after it.';
comment on column epochs.run_id is 'Run that trained it.';

create table if not exists dynamics (
    training_id integer not null,
    sample_id bigint not null,
    epochs integer not null,
    forgotten integer not null,
    learned boolean not null,
    confidence_mean double not null,
    confidence_variance double not null,
    run_id integer not null,
    primary key (training_id, sample_id)
);
comment on table dynamics is 'What each training sample did over the epochs, as the objective saw it, augmented and crafted.';
comment on column dynamics.training_id is 'Training: trainings.training_id.';
comment on column dynamics.sample_id is 'Sample: samples.sample_id.';
comment on column dynamics.epochs is 'Epochs in which it was seen.';
comment on column dynamics.forgotten is 'Forgetting events: how often it was right in one epoch and wrong in the next (Toneva et al. 2019).';
comment on column dynamics.learned is 'Whether it was ever right.';
comment on column dynamics.confidence_mean is 'Mean over the epochs of the probability of the true class (data maps, Swayamdipta et al. 2020).';
comment on column dynamics.confidence_variance is 'Variance of that probability over the epochs.';
comment on column dynamics.run_id is 'Run that ended the training.';
