-- Reserve waiting jobs: from the queue straight into the started registry, in one step.
-- ARGV[3] worker, [4] lease (s), [5] most jobs, [6] most events, [7] most bytes, [8] execution id, [9] most entries of
-- the queue that are read.
-- Returns {'1' if it stopped because of [9], else '0'; job_id, hash, job_id, hash, ...}. A call whose answer was lost
-- is repeated with the same execution id and returns the same jobs; jobs that this worker has from another execution go
-- back to the queue. During `rq suspend` it returns {'suspended'}, and nothing is changed.
local worker, lease = ARGV[3], tonumber(ARGV[4])
local most_jobs, most_events, most_bytes = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local execution, most_entries = ARGV[8], tonumber(ARGV[9])
if redis.call('EXISTS', P .. ':suspended') == 1 then return {'suspended'} end
local at = now()
local mine = P .. ':worker:' .. worker .. ':executions'
local answer, jobs, events, bytes = {'0'}, 0, 0, 0
-- rq's statuses of jobs that are not waiting, in whatever list they are.
local over = {finished = true, canceled = true, stopped = true, deferred = true}

local function hand_out(id, key)
  answer[#answer + 1] = id
  answer[#answer + 1] = redis.call('HGETALL', key)
end

for _, composite in ipairs(redis.call('SMEMBERS', mine)) do
  local id, held_by = split_composite(composite)
  local key = job_key(id)
  if redis.call('ZSCORE', WIP, composite) and fields_of(key, 'status')[1] == 'started' then
    if held_by == execution then
      jobs = jobs + 1
      redis.call('ZADD', WIP, at + lease, composite)
      hand_out(id, key)
    else
      drop_execution(id, held_by)
      if not is_held(id, at) then
        redis.call('HSET', key, 'status', 'queued')
        redis.call('LPUSH', QUEUE, id)
      end
    end
  else
    redis.call('SREM', mine, composite)
  end
end
if jobs > 0 then return answer end

-- An id that rq would refuse can't be part of other keys' names: the job gets another one.
local function usable(id)
  if #id <= 200 and string.match(id, '^[%w_-]+$') then return id end
  local other = 'renamed-' .. redis.sha1hex(id)
  if redis.call('EXISTS', job_key(id)) == 1 then redis.call('RENAME', job_key(id), job_key(other)) end
  return other
end

-- Whether the entry is that of a waiting job, not a copy: rq's own clean-up adds copies of jobs that a worker has, or
-- that are in another registry.
local function waits(id, key)
  if redis.call('TYPE', key)['ok'] ~= 'hash' then return false end
  local status = redis.call('HGET', key, 'status')
  if status == 'queued' then return true end
  if status and over[status] then return false end
  return not (redis.call('ZSCORE', SCHEDULED, id) or redis.call('ZSCORE', FAILED, id) or is_held(id, at))
end

-- Reserve a job; false if it exceeds the limits of this reservation.
local function take(id, key)
  local size = redis.call('HMGET', key, 'bf_events', 'bf_bytes', 'bf_reason', 'bf_type', 'bf_first_taken')
  local n, b = whole(size[1], 1, MOST_EVENTS), whole(size[2], 0)
  if jobs > 0 and (events + n > most_events or bytes + b > most_bytes) then
    redis.call('LPUSH', QUEUE, id)
    return false
  end
  local type = size[4] or 'unknown'
  if not whole(size[1], nil, MOST_EVENTS) then redis.call('HSET', key, 'bf_events', 1) end
  if not size[1] then
    -- No birdfeed producer made it: it is counted from here on.
    redis.call('HSETNX', key, 'bf_type', 'unknown')
    tally('accepted:' .. account(LEDGER, type), 1)
  end
  -- rq requeue (or rq-dashboard) requeued a dead letter: it is no longer dead.
  if size[3] and size[3] ~= '' then
    tally('dead:' .. account(LEDGER, type) .. ':' .. size[3], -n)
    redis.call('HDEL', key, 'bf_reason', 'bf_dead')
  end
  redis.call('HSET', key, 'status', 'started', 'worker_name', worker)
  add(key, 'bf_attempts', 1)
  if not seconds(size[5]) then redis.call('HSET', key, 'bf_first_taken', at) end
  redis.call('PERSIST', key)
  local composite = id .. ':' .. execution
  redis.call('ZADD', WIP, at + lease, composite)
  redis.call('HSET', P .. ':execution:' .. composite, 'id', execution, 'job_id', id, 'created_at', at,
    'last_heartbeat', at, 'worker_name', worker)
  redis.call('EXPIRE', P .. ':execution:' .. composite, 3600)
  redis.call('ZADD', P .. ':executions:' .. id, at + lease + 60, execution)
  redis.call('EXPIRE', P .. ':executions:' .. id, 3600)
  redis.call('SADD', mine, composite)
  jobs, events, bytes = jobs + 1, events + n, bytes + b
  hand_out(id, key)
  return true
end

local entries, full = 0, false
while jobs < most_jobs and not full do
  if entries >= most_entries then
    answer[1] = '1'
    break
  end
  local id = redis.call('LPOP', QUEUE)
  if not id then break end
  entries = entries + 1
  id = usable(id)
  local key = job_key(id)
  if waits(id, key) then
    -- Expired leases are deleted here: giving back expired ones must not find a job that was reserved again.
    drop_executions(id)
    full = not take(id, key)
  end
end
redis.call('EXPIRE', mine, 3600)
return answer
