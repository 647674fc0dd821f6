-- Note on jobs that their rows may be written from now on. ARGV[3] worker, [4] epoch s as text, [5] execution id,
-- [6...] job ids. Returns the ids that this worker no longer holds; those must not be sent.
local lost = {}
for i = 6, #ARGV do
  local key = job_key(ARGV[i])
  if redis.call('HGET', key, 'worker_name') == ARGV[3] and redis.call('ZSCORE', WIP, ARGV[i] .. ':' .. ARGV[5]) then
    redis.call('HSET', key, 'bf_posted', ARGV[4])
  else
    lost[#lost + 1] = ARGV[i]
  end
end
return lost
