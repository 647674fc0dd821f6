-- Give back the jobs of a lost worker. ARGV[3]: a worker's name, or '' for every expired lease; ARGV[4]: '1' if the
-- worker crashed, so that one of its jobs may be the cause; ARGV[5]: most leases read.
-- Returns the ids given back. No attempt is counted for a lost worker.
local worker, at = ARGV[3], now()
local composites
if worker ~= '' then
  composites = redis.call('SMEMBERS', P .. ':worker:' .. worker .. ':executions')
else
  composites = redis.call('ZRANGEBYSCORE', WIP, '-inf', at, 'LIMIT', 0, tonumber(ARGV[5]))
end
local ids = {}
for _, composite in ipairs(composites) do
  local id, execution = split_composite(composite)
  local has = fields_of(job_key(id), 'status', 'worker_name')
  local held = drop_execution(id, execution)
  -- Another worker may have reserved a copy of the job since.
  if held == 1 and has[1] == 'started' and (worker == '' or has[2] == worker) and not is_held(id, at) then
    redis.call('HSET', job_key(id), 'status', 'queued')
    if ARGV[4] == '1' then add(job_key(id), 'bf_suspect', 1) end
    ids[#ids + 1] = id
  else
    redis.call('ZREM', WIP, composite) -- one that names no execution
  end
end
for n = #ids, 1, -1 do redis.call('LPUSH', QUEUE, ids[n]) end
redis.call('DEL', P .. ':worker:' .. worker .. ':executions')
return ids
