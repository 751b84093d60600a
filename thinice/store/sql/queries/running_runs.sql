select run_id, host, pid, process_started
from runs
where outcome = 'running'
