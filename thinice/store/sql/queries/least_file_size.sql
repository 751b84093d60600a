-- How many bytes the file of the store has at least: three headers, and the blocks that hold something.
select 3 * 4096 + block_size * used_blocks
from pragma_database_size()
where database_name = 'store'
