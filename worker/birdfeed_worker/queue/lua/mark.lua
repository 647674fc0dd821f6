-- Mark jobs: their rows may be written from now on. ARGV[3] worker, [4] execution id, [5...] job ids.
-- Returns the ids of jobs that this worker no longer has; their rows must not be sent.
local lost, at = {}, string.format('%.6f', now())
for i = 5, #ARGV do
  local key = job_key(ARGV[i])
  if fields_of(key, 'worker_name')[1] == ARGV[3] and redis.call('ZSCORE', WIP, ARGV[i] .. ':' .. ARGV[4]) then
    redis.call('HSET', key, 'bf_posted', at)
  else
    lost[#lost + 1] = ARGV[i]
  end
end
return lost
