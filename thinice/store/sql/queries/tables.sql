-- Every table and view with what it says of itself.
select table_name as name, 'table' as kind, comment
from duckdb_tables()
where database_name = current_database() and not internal
union all
select view_name, 'view', comment
from duckdb_views()
where database_name = current_database() and not internal
order by kind, name
