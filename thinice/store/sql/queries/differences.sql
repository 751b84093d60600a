select * exclude (verdict) from temp.compared
where verdict = 'different'
order by what, network, attack, sample_id
limit $most
