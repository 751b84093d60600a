-- Versions that decide numbers: of the runs in the store attached as part, and of those here.
select distinct 'part' as store, versions->>'thinice' as thinice, versions->>'torch' as torch from part.runs
union all
select distinct 'store', versions->>'thinice', versions->>'torch' from runs
order by all
