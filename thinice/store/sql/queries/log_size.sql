-- How much of the log beside the store DuckDB has read, and the size of that log in the same words.
select wal_size, format_bytes($size)
from pragma_database_size()
where database_name = 'store'
