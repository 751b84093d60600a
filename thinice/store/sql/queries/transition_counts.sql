select transition::text as transition, count(*) as n
from transitions
where comparison_id = $comparison_id
group by all
order by all
