-- The migrations that were applied, in order.
create table thinice_migrations (
    name text primary key,
    applied timestamp not null,
    version text not null
);
comment on table thinice_migrations is 'The steps that made this schema, in order.';
comment on column thinice_migrations.name is 'Name of the step.';
comment on column thinice_migrations.applied is 'When it was applied, UTC.';
comment on column thinice_migrations.version is 'Version of thinice that applied it.';
