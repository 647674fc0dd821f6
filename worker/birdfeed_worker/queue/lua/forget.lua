-- Erase one person's events from a job that no worker has: waiting, scheduled or dead. In one step, so that every event
-- is counted once even if the job is reserved, replayed or purged at the same time.
-- ARGV[3] job, [4] SHA-1 of the data that was read, [5] events erased, [6] the data of the rest ('' = nothing),
-- [7] its bytes, [8] its description, [9] seconds for which an emptied batch is remembered, [10] a key in which the
-- result of this call for each job is kept for a while, in case its answer is lost.
-- Returns {1, events erased}, or {0} if the job is missing, {2} if it has changed since it was read, {3} if a worker
-- has it.
local id, seen, taken = ARGV[3], ARGV[4], tonumber(ARGV[5])
local key = job_key(id)
local before = redis.call('HGET', ARGV[10], id)
if before then return {1, tonumber(before)} end
local has = fields_of(key, 'data', 'bf_events', 'bf_type', 'bf_reason', 'status')
if not has[1] then return {0} end
if has[5] == 'started' or is_held(id, now()) then return {3} end
if redis.sha1hex(has[1]) ~= seen then return {2} end
local there, reason = whole(has[2], taken, MOST_EVENTS), has[4]
local name = account(LEDGER, has[3] or 'unknown')
local left = ARGV[6] ~= '' and math.max(0, there - taken) or 0
taken = there - left
if reason and reason ~= '' then
  tally('dead:' .. name .. ':' .. reason, -taken)
  dead_bytes(left > 0 and #ARGV[6] - #has[1] or -#has[1] - LETTER_OVERHEAD)
end
-- A job that no birdfeed producer made was never counted.
if not has[2] then tally('accepted:' .. name, there) end
tally('dropped:' .. name .. ':forgotten', taken)
if ARGV[6] ~= '' then
  redis.call('HSET', key, 'data', ARGV[6], 'bf_events', left, 'bf_bytes', ARGV[7], 'description', ARGV[8])
else
  redis.call('DEL', key, P .. ':results:' .. id)
  redis.call('LREM', QUEUE, 0, id)
  redis.call('ZREM', SCHEDULED, id)
  redis.call('ZREM', FAILED, id)
  -- A producer that lost the answer to its enqueue may send the batch again.
  redis.call('SET', P .. ':birdfeed:' .. Q .. ':done:' .. id, 0, 'EX', tonumber(ARGV[9]))
end
redis.call('HSET', ARGV[10], id, taken)
redis.call('EXPIRE', ARGV[10], 600)
return {1, taken}
