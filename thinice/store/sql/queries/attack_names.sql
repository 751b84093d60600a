select attack_id, name as attack, norm::text as norm, settings::text as settings from attacks
