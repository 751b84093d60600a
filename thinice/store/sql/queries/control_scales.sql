select scale from controls where comparison_id = $comparison_id and seed = $seed and scale is not null order by network
