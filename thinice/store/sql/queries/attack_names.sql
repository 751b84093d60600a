-- All attacks; and below 0, as in attack_results, what was proved and what other programs claim.
select attack_id, name as attack, norm::text as norm, settings::text as settings from attacks
union all
select -row_number() over (order by name, norm), name, norm::text, '{}'
from (
    select distinct 'lower bounds' as name, norm from lower_bounds
    union
    select distinct 'claims of ' || verifier, norm from claimed_bounds
)
