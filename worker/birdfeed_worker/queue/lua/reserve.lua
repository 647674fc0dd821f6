-- Reserve waiting jobs: from the queue straight into the started registry, in one step.
-- ARGV[3] worker, [4] lease (s), [5] most jobs, [6] most events, [7] most bytes, [8] execution id
-- Returns {job_id, hash, job_id, hash, ...}. A reservation whose answer was lost is asked again with the same execution id
-- and returns the same jobs; what this worker holds from another execution goes back to the queue.
local worker, lease = ARGV[3], tonumber(ARGV[4])
local most_jobs, most_events, most_bytes = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local execution = ARGV[8]
local at = now()
local mine = P .. ':worker:' .. worker .. ':executions'
local taken, jobs, events, bytes = {}, 0, 0, 0

local function hand_out(id, key)
  taken[#taken + 1] = id
  taken[#taken + 1] = redis.call('HGETALL', key)
end

for _, composite in ipairs(redis.call('SMEMBERS', mine)) do
  local id, held_by = split_composite(composite)
  local key = job_key(id)
  if redis.call('ZSCORE', WIP, composite) and redis.call('HGET', key, 'status') == 'started' then
    if held_by == execution then
      jobs = jobs + 1
      redis.call('ZADD', WIP, at + lease, composite)
      hand_out(id, key)
    else
      drop_execution(id, held_by, worker)
      redis.call('HSET', key, 'status', 'queued')
      redis.call('LPUSH', QUEUE, id)
    end
  else
    redis.call('SREM', mine, composite)
  end
end
if jobs > 0 then return taken end

while jobs < most_jobs do
  local id = redis.call('LPOP', QUEUE)
  if not id then break end
  local key = job_key(id)
  local status = redis.call('HGET', key, 'status')
  local live = false
  if status == 'started' then
    -- A copy: rq's own clean-up put it back while a worker still holds it. Reserve it only if nobody does.
    for _, e in ipairs(redis.call('ZRANGE', P .. ':executions:' .. id, 0, -1)) do
      local score = redis.call('ZSCORE', WIP, id .. ':' .. e)
      if score and tonumber(score) > at then live = true end
    end
  end
  if (status == 'queued' or status == 'started') and not live then
    local size = redis.call('HMGET', key, 'bf_events', 'bf_bytes')
    local n = tonumber(size[1] or 1) or 1
    local b = tonumber(size[2] or 0) or 0
    if jobs > 0 and (events + n > most_events or bytes + b > most_bytes) then
      redis.call('LPUSH', QUEUE, id)
      break
    end
    jobs, events, bytes = jobs + 1, events + n, bytes + b
    if not size[1] then
      -- No producer of birdfeed's made it: it is counted from here on.
      redis.call('HSET', key, 'bf_events', 1)
      redis.call('HSETNX', key, 'bf_type', 'unknown')
      redis.call('HINCRBY', LEDGER, 'accepted:' .. redis.call('HGET', key, 'bf_type'), 1)
    end
    -- rq requeue (or rq-dashboard) brought a dead letter back: it is no longer dead.
    local dead = redis.call('HMGET', key, 'bf_reason', 'bf_type')
    if dead[1] and dead[1] ~= '' then
      redis.call('HINCRBY', LEDGER, 'dead:' .. (dead[2] or 'unknown') .. ':' .. dead[1], -n)
      redis.call('HDEL', key, 'bf_reason', 'bf_dead')
    end
    redis.call('HSET', key, 'status', 'started', 'worker_name', worker)
    redis.call('HINCRBY', key, 'bf_attempts', 1)
    redis.call('HSETNX', key, 'bf_first_taken', at)
    redis.call('PERSIST', key)
    local composite = id .. ':' .. execution
    redis.call('ZADD', WIP, at + lease, composite)
    redis.call('HSET', P .. ':execution:' .. composite, 'id', execution, 'job_id', id, 'created_at', at,
      'last_heartbeat', at, 'worker_name', worker)
    redis.call('EXPIRE', P .. ':execution:' .. composite, 3600)
    redis.call('ZADD', P .. ':executions:' .. id, at + lease + 60, execution)
    redis.call('EXPIRE', P .. ':executions:' .. id, 3600)
    redis.call('SADD', mine, composite)
    hand_out(id, key)
  end
end
if jobs > 0 then redis.call('EXPIRE', mine, 3600) end
return taken
