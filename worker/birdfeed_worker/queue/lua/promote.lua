-- Move scheduled jobs that are due to the queue. ARGV[3] most jobs. Returns {how many moved, when the next is due}.
local at = now()
local due = redis.call('ZRANGEBYSCORE', SCHEDULED, '-inf', at, 'LIMIT', 0, tonumber(ARGV[3]))
-- Statuses of a job that is somewhere else, or finished.
local elsewhere = {queued = true, started = true, failed = true, finished = true, canceled = true, stopped = true}
for _, id in ipairs(due) do
  redis.call('ZREM', SCHEDULED, id)
  local key = job_key(id)
  if redis.call('TYPE', key)['ok'] == 'hash' then
    local status = redis.call('HGET', key, 'status')
    if not (status and elsewhere[status]) then
      redis.call('HSET', key, 'status', 'queued')
      redis.call('RPUSH', QUEUE, id)
    end
  end
end
local next_due = redis.call('ZRANGE', SCHEDULED, 0, 0, 'WITHSCORES')
return {#due, next_due[2] or ''}
