-- Move scheduled jobs that are due to the queue. ARGV[3] most jobs. Returns {how many moved, when the next is due}.
local due = redis.call('ZRANGEBYSCORE', SCHEDULED, '-inf', now(), 'LIMIT', 0, tonumber(ARGV[3]))
for _, id in ipairs(due) do
  redis.call('ZREM', SCHEDULED, id)
  if redis.call('HGET', job_key(id), 'status') == 'scheduled' then
    redis.call('HSET', job_key(id), 'status', 'queued')
    redis.call('RPUSH', QUEUE, id)
  end
end
local next_due = redis.call('ZRANGE', SCHEDULED, 0, 0, 'WITHSCORES')
return {#due, next_due[2] or ''}
