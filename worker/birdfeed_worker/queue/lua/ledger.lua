-- The ledger's counts and, computed from the jobs themselves, what is in flight, in one step.
-- ARGV[3] most jobs read. Returns {ledger as field, value ...; in flight as type, events ...; anomalies as name, jobs
-- ...; dead letters that rq requeued as type:reason, events ...; '1' if there were more jobs than that: then there are
-- only the numbers of jobs by state (in place of those in flight)}.
local ledger = redis.call('HGETALL', LEDGER)
local most = tonumber(ARGV[3])
local queued, started, scheduled = redis.call('LLEN', QUEUE), redis.call('ZCARD', WIP), redis.call('ZCARD', SCHEDULED)
if queued + started + scheduled > most then
  return {ledger, {'queued', queued, 'started', started, 'scheduled', scheduled}, {}, {}, '1'}
end
local seen, flight, anomalies, requeued = {}, {}, {}, {}
local names = {}

local function name_of(type)
  names[type] = names[type] or account(LEDGER, type)
  return names[type]
end

local function note(what) anomalies[what] = (anomalies[what] or 0) + 1 end

local function look(id)
  if seen[id] then return end
  seen[id] = true
  local has = fields_of(job_key(id), 'status', 'bf_events', 'bf_type', 'bf_reason')
  if not has[1] then note('orphaned')
  elseif has[1] ~= 'queued' and has[1] ~= 'started' and has[1] ~= 'scheduled' then note('stray')
  elseif has[4] and has[4] ~= '' then
    -- Requeued by rq; counted as dead until a worker reserves it.
    note('requeued')
    local entry = name_of(has[3] or 'unknown') .. ':' .. has[4]
    requeued[entry] = (requeued[entry] or 0) + whole(has[2], 1, MOST_EVENTS)
  elseif not has[2] then note('foreign') -- counted when a worker reserves it
  else
    local name = name_of(has[3] or 'unknown')
    flight[name] = (flight[name] or 0) + whole(has[2], 1, MOST_EVENTS)
  end
end

for _, id in ipairs(redis.call('LRANGE', QUEUE, 0, -1)) do look(id) end
for _, composite in ipairs(redis.call('ZRANGE', WIP, 0, -1)) do
  local id = split_composite(composite)
  look(id)
end
for _, id in ipairs(redis.call('ZRANGE', SCHEDULED, 0, -1)) do look(id) end

local function flat(pairs_of)
  local out = {}
  for name, count in pairs(pairs_of) do
    out[#out + 1] = name
    out[#out + 1] = tostring(count)
  end
  return out
end
return {ledger, flat(flight), flat(anomalies), flat(requeued), ''}
