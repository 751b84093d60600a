delete from controls where comparison_id = $comparison_id
