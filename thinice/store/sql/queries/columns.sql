-- Every name that a query can use.
select table_name, column_name
from duckdb_columns()
where database_name = current_database() and not internal
