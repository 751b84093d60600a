select count(*), count(*) filter (verdict = 'same'), count(*) filter (verdict = 'rounding') from temp.compared
