-- Shared by all scripts. ARGV[1] is rq's key prefix, ARGV[2] the queue's name.
-- Any client of Redis may have written anything to any key, so nothing here trusts a field or a key's type: an error
-- in the middle of a script leaves half of its writes.
local P, Q = ARGV[1], ARGV[2]
local QUEUE, WIP = P .. ':queue:' .. Q, P .. ':wip:' .. Q
local SCHEDULED, FAILED = P .. ':scheduled:' .. Q, P .. ':failed:' .. Q
local LEDGER = P .. ':birdfeed:' .. Q .. ':ledger'
-- More events than a job can have: a larger number is not a count.
local MOST_EVENTS = 1000000
-- Seconds ahead (a week) beyond which a time to wait until is junk, and would stop the pool permanently.
local FAR = 604800

local function job_key(id) return P .. ':job:' .. id end

local function now()
  local t = redis.call('TIME')
  return tonumber(t[1]) + tonumber(t[2]) / 1000000
end

-- A count in a field; the default if it is missing, not a whole number, or more than `most`.
local function whole(value, default, most)
  if not value or #value > 15 or not string.match(value, '^%d+$') then return default end
  local n = tonumber(value)
  if most and n > most then return default end
  return n
end

-- A time (epoch s) or a number of seconds in a field; nil if it is missing or neither. (A NaN compares as false.)
local function seconds(value)
  local n = tonumber(value or '')
  if n and n >= 0 and n < 1e11 then return n end
  return nil
end

-- A time to wait until; 0 if it is missing, junk, or so far ahead that it must be junk.
local function until_time(value, at)
  local n = seconds(value)
  if n and n <= at + FAR then return n end
  return 0
end

-- An error that names the key if its value is of another kind; else nil.
local function wrong_kind(key, kind)
  local found = redis.call('TYPE', key)['ok']
  if found == kind or found == 'none' then return nil end
  return redis.error_reply('WRONGKIND ' .. key .. ' holds a ' .. found .. ', not a ' .. kind)
end

-- Fields of a hash; none if the key is not a hash: an error has no entry 1, 2, ...
local function fields_of(key, ...) return redis.pcall('HMGET', key, ...) end

-- Add to a count; a value that is not a number is replaced.
local function add(key, field, amount)
  local sum = redis.pcall('HINCRBY', key, field, amount)
  if type(sum) == 'number' then return sum end
  redis.call('HSET', key, field, amount)
  return tonumber(amount)
end

-- Change a count of the ledger. Reductions are counted, too, as fell:<field>: the sum of both only grows, which alerts
-- need.
local function tally(field, amount)
  add(LEDGER, field, amount)
  if tonumber(amount) < 0 then add(LEDGER, 'fell:' .. field, -tonumber(amount)) end
end

-- Bytes of a dead letter in Redis besides its data: the other fields, the key, the registry's entry.
local LETTER_OVERHEAD = 1100

-- Change the size of all dead letters, if it was measured: retention does that each minute, and changes between two
-- measurements are added here.
local function dead_bytes(change)
  local key = P .. ':birdfeed:' .. Q .. ':dead-size'
  local there = whole(fields_of(key, 'bytes')[1])
  if there then redis.call('HSET', key, 'bytes', math.max(0, there + change)) end
end

local function split_composite(composite)
  local at = string.find(composite, ':', 1, true)
  if not at then return composite, '' end
  return string.sub(composite, 1, at - 1), string.sub(composite, at + 1)
end

-- Delete one worker's lease on a job; the leases of others on it stay. Returns 1 if there was one.
local function drop_execution(job_id, execution_id)
  local composite = job_id .. ':' .. execution_id
  local held = redis.call('ZREM', WIP, composite)
  local worker = fields_of(P .. ':execution:' .. composite, 'worker_name')[1]
  redis.call('DEL', P .. ':execution:' .. composite)
  redis.pcall('ZREM', P .. ':executions:' .. job_id, execution_id)
  if worker then redis.pcall('SREM', P .. ':worker:' .. worker .. ':executions', composite) end
  return held
end

-- Whether there is a lease on a job that has not expired.
local function is_held(job_id, at)
  for _, execution in ipairs(redis.pcall('ZRANGE', P .. ':executions:' .. job_id, 0, -1)) do
    local score = redis.call('ZSCORE', WIP, job_id .. ':' .. execution)
    if score and tonumber(score) > at then return true end
  end
  return false
end

-- Delete every lease on a job.
local function drop_executions(job_id)
  local executions = redis.pcall('ZRANGE', P .. ':executions:' .. job_id, 0, -1)
  for _, execution in ipairs(executions) do drop_execution(job_id, execution) end
  if executions.err then redis.call('DEL', P .. ':executions:' .. job_id) end
end
