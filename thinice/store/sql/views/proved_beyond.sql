-- The samples that are proved not to lie on thin ice: from proved_beyond(4/255).
create or replace macro proved_beyond(radius) as table
select * from intervals where epsilon_lower > radius order by measurement_id, epsilon_lower desc, sample_id;
comment on macro table proved_beyond is 'The samples that are proved to lie farther from the boundary than a budget: from proved_beyond(4/255).';
