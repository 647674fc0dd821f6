-- Shared by all scripts. ARGV[1] is rq's key prefix, ARGV[2] the queue's name.
local P, Q = ARGV[1], ARGV[2]
local QUEUE, WIP = P .. ':queue:' .. Q, P .. ':wip:' .. Q
local SCHEDULED, FAILED = P .. ':scheduled:' .. Q, P .. ':failed:' .. Q
local LEDGER = P .. ':birdfeed:' .. Q .. ':ledger'

local function job_key(id) return P .. ':job:' .. id end

local function now()
  local t = redis.call('TIME')
  return tonumber(t[1]) + tonumber(t[2]) / 1000000
end

-- End one worker's lease on a job. Returns 1 if there was one.
local function drop_execution(job_id, execution_id, worker)
  local composite = job_id .. ':' .. execution_id
  local held = redis.call('ZREM', WIP, composite)
  redis.call('DEL', P .. ':execution:' .. composite)
  redis.call('DEL', P .. ':executions:' .. job_id)
  if worker and worker ~= '' then
    redis.call('SREM', P .. ':worker:' .. worker .. ':executions', composite)
  end
  return held
end

local function split_composite(composite)
  local at = string.find(composite, ':', 1, true)
  return string.sub(composite, 1, at - 1), string.sub(composite, at + 1)
end
