-- The columns of one table or view with what they say of themselves.
select column_name as "column", data_type as type, comment
from duckdb_columns()
where database_name = current_database() and not internal and table_name = $name
order by column_index
