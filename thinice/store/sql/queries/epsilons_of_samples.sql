-- What the attack of a measurement found for some samples, as far as it has.
select sample_id, epsilon from epsilons where measurement_id = $measurement_id and list_contains($ids, sample_id)
