insert into thinice_schema by name
select $version as version, $definitions as definitions, $now as applied, $thinice as thinice
