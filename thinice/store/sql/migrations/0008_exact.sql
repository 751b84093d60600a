-- How the p-values of a comparison were computed.

alter table statistics add column exact boolean;
comment on column statistics.exact is 'Whether the p-values count all cases, instead of following the normal approximation; NULL where an older thinice did not say.';
