-- Networks of the store attached as part under a name that another network has here.
select p.name, p.fingerprint as theirs, any_value(c.fingerprint) as ours
from part.checkpoints p join checkpoints c on c.name = p.name
where not exists (from checkpoints k where k.fingerprint = p.fingerprint)
group by all
order by p.name
