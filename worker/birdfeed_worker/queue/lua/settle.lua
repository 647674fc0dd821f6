-- Settle jobs, all or none: if this worker no longer has one of them, nothing is changed and its id is returned.
-- ARGV[3] worker, [4] execution id, [5] seconds for which a settled batch is remembered, [6] number of jobs; then for
-- each job:
--   id, action, when, data, events, bytes, posted, destination
--     action  done: delete it; back: to the front of the queue; at: wait until `when` (epoch s); suspect: the same,
--             and it is still suspected of having crashed a worker
--     data    the shrunk job's data, or '' if unchanged; events and bytes are then those of the rest. Done: events is
--             the number of dead events, kept for a while with the job's id (a replay waits for it)
--     posted  epoch s of a request whose outcome is unknown, or ''
--     destination  the data source its rows go to, or ''
-- then number of ledger entries, and each: count, event type, ':' and reason or '', increment
-- then number of dead letters, and each: id, number of hash fields, field, value ...
local worker, execution, remember = ARGV[3], ARGV[4], tonumber(ARGV[5])
local i = 7
local jobs = {}
for n = 1, tonumber(ARGV[6]) do
  jobs[n] = {ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4], ARGV[i + 5], ARGV[i + 6], ARGV[i + 7]}
  i = i + 8
end

local lost = {}
for _, job in ipairs(jobs) do
  local has = fields_of(job_key(job[1]), 'status', 'worker_name')
  if has[1] ~= 'started' or has[2] ~= worker or not redis.call('ZSCORE', WIP, job[1] .. ':' .. execution) then
    lost[#lost + 1] = job[1]
  end
end
if #lost > 0 then return lost end

local front = {}
for _, job in ipairs(jobs) do
  local id, action, key = job[1], job[2], job_key(job[1])
  drop_execution(id, execution)
  if action == 'done' then
    redis.call('DEL', key, P .. ':results:' .. id)
    redis.call('SET', P .. ':birdfeed:' .. Q .. ':done:' .. id, job[5], 'EX', remember)
  else
    if job[4] ~= '' then redis.call('HSET', key, 'data', job[4], 'bf_events', job[5], 'bf_bytes', job[6]) end
    if job[7] ~= '' then
      -- Unknown again, although the destination accepted other rows since the last try: the cause is this job, not the
      -- store.
      local last = redis.call('HMGET', key, 'bf_unknown_at', 'bf_spent')
      local before = seconds(last[1])
      local taking = seconds(fields_of(P .. ':birdfeed:' .. Q .. ':destination:' .. job[8], 'last_success')[1])
      if before and taking and taking > before and tonumber(job[7]) > before then
        add(key, 'bf_unknowns', 1)
        redis.call('HSET', key, 'bf_spent', string.format('%.6f', (seconds(last[2]) or 0) + tonumber(job[7]) - before))
      end
      redis.call('HSET', key, 'bf_posted', job[7], 'bf_unknown_at', job[7])
    else
      redis.call('HDEL', key, 'bf_posted')
    end
    if action ~= 'suspect' then redis.call('HDEL', key, 'bf_suspect') end
    if action == 'at' or action == 'suspect' then
      redis.call('HSET', key, 'status', 'scheduled')
      redis.call('ZADD', SCHEDULED, tonumber(job[3]), id)
    else
      redis.call('HSET', key, 'status', 'queued')
      front[#front + 1] = id
    end
  end
end
for n = #front, 1, -1 do redis.call('LPUSH', QUEUE, front[n]) end

local entries = tonumber(ARGV[i])
i = i + 1
for _ = 1, entries do
  local name = account(LEDGER, ARGV[i + 1])
  tally(ARGV[i] .. ':' .. name .. ARGV[i + 2], ARGV[i + 3])
  i = i + 4
end

local dead = tonumber(ARGV[i])
i = i + 1
for _ = 1, dead do
  local id, count = ARGV[i], tonumber(ARGV[i + 1])
  i = i + 2
  local fields = {}
  for n = 1, count * 2 do
    fields[n] = ARGV[i]
    if n % 2 == 0 and fields[n - 1] == 'data' then dead_bytes(#fields[n] + LETTER_OVERHEAD) end
    i = i + 1
  end
  redis.call('HSET', job_key(id), unpack(fields))
  redis.call('ZADD', FAILED, -1, id)
end
redis.call('SADD', P .. ':queues', QUEUE)
return lost
