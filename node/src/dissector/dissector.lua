
-- Below this line nothing depends on the protocol's version.

local HEADER = 9
-- A transfer in pieces that is longer is shown piece by piece only.
local MOST = 64 * 1024 * 1024
-- As many numbers of a list are shown.
local SHOWN = 64

local exo = Proto("exo", "EXO ring protocol")
local announcement = Proto("exo_announcement", "EXO announcement")
local tcp_stream = Field.new("tcp.stream")
local json_dissector = Dissector.get("json")

local f = {}
local function declare(name, make, label, ...)
  if not f[name] then
    f[name] = make("exo." .. name, label or name, ...)
  end
end

local types = {}
for number, message in pairs(messages) do
  types[number] = message.name
end

declare("type", ProtoField.uint8, "type", base.HEX, types)
declare("name", ProtoField.string, "message")
declare("length", ProtoField.uint32, "payload bytes")
declare("json", ProtoField.string, "JSON")
declare("request_id", ProtoField.string, "request_id")
declare("model_id", ProtoField.string, "model_id")
declare("tensor", ProtoField.string, "tensor")
declare("tensor.key", ProtoField.string, "key")
declare("tensor.dtype", ProtoField.string, "dtype")
declare("tensor.shape", ProtoField.string, "shape")
declare("tensor.bytes", ProtoField.uint32, "bytes")
declare("opaque", ProtoField.bytes, "payload")
declare("json_length", ProtoField.uint32, "bytes of JSON")
declare("reassembled", ProtoField.string, "message in pieces")

for number, message in pairs(messages) do
  for _, field in ipairs(message.fields or {}) do
    -- What a code or a flag means is its message's; all else is shared.
    local own = string.lower(message.name) .. "." .. field.name
    if field.kind == "u16" then
      declare(field.name, ProtoField.uint16)
    elseif field.kind == "u32" then
      declare(field.name, ProtoField.uint32)
    elseif field.kind == "u64" then
      declare(field.name, ProtoField.uint64)
    elseif field.kind == "f32" then
      declare(field.name, ProtoField.float)
    elseif field.kind == "code" then
      field.own = own
      declare(own, ProtoField.uint16, field.name, base.DEC, field.names)
    elseif field.kind == "flags" then
      field.own = own
      declare(own, ProtoField.uint8, field.name, base.HEX)
      for _, flag in ipairs(field.bits) do
        declare(own .. "." .. string.lower(flag[2]), ProtoField.bool, flag[2], 8, nil, flag[1])
      end
    elseif field.kind == "message" then
      field.own = own
      declare(own, ProtoField.uint8, field.name, base.HEX, types)
    elseif field.kind == "element" then
      declare(field.name, ProtoField.uint8, field.name, base.DEC, element_names)
    elseif field.kind == "text" or field.kind == "words" then
      declare(field.name, ProtoField.string)
    elseif field.kind == "numbers" or field.kind == "pairs" then
      declare(field.name, ProtoField.string)
    elseif field.kind == "piece" or field.kind == "bytes" then
      declare(field.name, ProtoField.bytes)
    end
  end
end

declare("announcement.node_id", ProtoField.string, "node_id")
declare("announcement.port", ProtoField.uint32, "port")

local all = {}
for name, field in pairs(f) do
  if string.sub(name, 1, 13) ~= "announcement." then
    all[#all + 1] = field
  end
end
exo.fields = all
announcement.fields = { f["announcement.node_id"], f["announcement.port"] }

local bad = ProtoExpert.new("exo.bad", "not what the protocol allows", expert.group.MALFORMED, expert.severity.ERROR)
exo.experts = { bad }

-- JSON: nil and why when it is none. Objects keep the last of two equal keys.
local parse
do
  local escapes = { b = "\b", f = "\f", n = "\n", r = "\r", t = "\t", ['"'] = '"', ["\\"] = "\\", ["/"] = "/" }

  local function skip(s, at)
    return string.find(s, "[^ \t\r\n]", at) or #s + 1
  end

  local function utf8_of(code)
    if code < 0x80 then
      return string.char(code)
    elseif code < 0x800 then
      return string.char(0xc0 + math.floor(code / 0x40), 0x80 + code % 0x40)
    elseif code < 0x10000 then
      return string.char(0xe0 + math.floor(code / 0x1000), 0x80 + math.floor(code / 0x40) % 0x40, 0x80 + code % 0x40)
    end
    return string.char(
      0xf0 + math.floor(code / 0x40000), 0x80 + math.floor(code / 0x1000) % 0x40,
      0x80 + math.floor(code / 0x40) % 0x40, 0x80 + code % 0x40
    )
  end

  local function text(s, at)
    local parts = {}
    while true do
      local stop = string.find(s, '["\\]', at)
      if not stop then
        return nil
      end
      parts[#parts + 1] = string.sub(s, at, stop - 1)
      if string.sub(s, stop, stop) == '"' then
        return table.concat(parts), stop + 1
      end
      local letter = string.sub(s, stop + 1, stop + 1)
      at = stop + 2
      if letter == "u" then
        local code = tonumber(string.match(s, "^%x%x%x%x", at) or "", 16)
        if not code then
          return nil
        end
        at = at + 4
        local low = code >= 0xd800 and code < 0xdc00 and tonumber(string.match(s, "^\\u(%x%x%x%x)", at) or "", 16)
        if low and low >= 0xdc00 and low < 0xe000 then
          code = 0x10000 + (code - 0xd800) * 0x400 + low - 0xdc00
          at = at + 6
        end
        parts[#parts + 1] = utf8_of(code)
      elseif escapes[letter] then
        parts[#parts + 1] = escapes[letter]
      else
        return nil
      end
    end
  end

  local function value(s, at, depth)
    if depth > 64 then
      return nil
    end
    at = skip(s, at)
    local letter = string.sub(s, at, at)
    if letter == '"' then
      return text(s, at + 1)
    elseif letter == "{" or letter == "[" then
      local list, close = {}, letter == "{" and "}" or "]"
      at = skip(s, at + 1)
      if string.sub(s, at, at) == close then
        return list, at + 1
      end
      while true do
        local key = #list + 1
        if letter == "{" then
          at = skip(s, at)
          if string.sub(s, at, at) ~= '"' then
            return nil
          end
          key, at = text(s, at + 1)
          at = key and skip(s, at)
          if not key or string.sub(s, at, at) ~= ":" then
            return nil
          end
          at = at + 1
        end
        local item
        item, at = value(s, at, depth + 1)
        if not at then
          return nil
        end
        list[key] = item
        at = skip(s, at)
        local after = string.sub(s, at, at)
        at = at + 1
        if after == close then
          return list, at
        elseif after ~= "," then
          return nil
        end
      end
    end
    local word = string.match(s, "^[%w%.%+%-]+", at)
    if not word then
      return nil
    end
    at = at + #word
    if word == "true" then
      return true, at
    elseif word == "false" then
      return false, at
    elseif word == "null" then
      return false, at
    end
    local number = tonumber(word)
    if not number then
      return nil
    end
    return number, at
  end

  parse = function(s)
    local tree, at = value(s, 1, 1)
    if at and skip(s, at) > #s and type(tree) == "table" then
      return tree
    end
    return nil
  end
end

-- For one line: short, and without what would begin another one.
local function shorter(text)
  text = string.gsub(text, "%c", " ")
  if #text > 60 then
    return string.sub(text, 1, 60) .. "..."
  end
  return text
end

local function element_size(dtype)
  if type(dtype) ~= "string" then
    return nil
  end
  local bare = string.gsub(dtype, "^mlx%.core%.", "")
  bare = string.gsub(bare, "^torch%.", "")
  bare = string.gsub(bare, "^numpy%.", "")
  return sizes[bare]
end

local function show_tensor(tree, range, key, dtype, shape, notes)
  local words = dtype .. "[" .. table.concat(shape, ", ") .. "]"
  local inner = tree:add(f.tensor, range, words)
  inner:append_text(" (" .. range:len() .. " bytes)")
  inner:add(f["tensor.key"], range, key)
  inner:add(f["tensor.dtype"], range, dtype)
  inner:add(f["tensor.shape"], range, "[" .. table.concat(shape, ", ") .. "]")
  inner:add(f["tensor.bytes"], range, range:len())
  notes[#notes + 1] = words
end

-- What people filter by, wherever it stands in the JSON of a message.
local function show_known(tree, range, json, notes)
  local shard = type(json.shard) == "table" and json.shard or {}
  local setup = {
    { "request_id", json.request_id or json.request },
    { "model_id", shard.model_id or json.model },
  }
  for _, pair in ipairs(setup) do
    if type(pair[2]) == "string" then
      tree:add(f[pair[1]], range, pair[2])
      notes[#notes + 1] = pair[1] .. "=" .. shorter(pair[2])
    end
  end
  if shard.start_layer and shard.end_layer then
    notes[#notes + 1] = "layers " .. shard.start_layer .. "-" .. shard.end_layer
  end
end

local function show_json(range, pinfo, tree, notes)
  local json = parse(range:raw())
  if not json then
    return nil
  end
  tree:add(f.json, range, range:string(ENC_UTF_8)):set_hidden()
  show_known(tree, range, json, notes)
  json_dissector:call(range:tvb(), pinfo, tree)
  return json
end

local function wrong(tree, range, why)
  tree:add_proto_expert_info(bad, why)
end

local function show_container(payload, keys, pinfo, tree, notes)
  if payload:len() < 4 then
    notes[#notes + 1] = "empty"
    return
  end
  local length = payload(0, 4):uint()
  tree:add(f.json_length, payload(0, 4))
  if length == 0 then
    notes[#notes + 1] = "empty"
    return
  end
  if 4 + length > payload:len() then
    return wrong(tree, payload, "JSON of " .. length .. " bytes in a payload of " .. payload:len())
  end
  local json = show_json(payload(4, length), pinfo, tree, notes)
  if not json then
    return wrong(tree, payload, "the container holds no JSON")
  end
  local at = 4 + length
  local bare = json.shape and json.dtype and json
  for _, key in ipairs(keys) do
    local description = json[key] or bare
    if type(description) == "table" and type(description.shape) == "table" then
      local size = element_size(description.dtype)
      for _, dimension in ipairs(description.shape) do
        size = size and type(dimension) == "number" and size * dimension
      end
      if not size or at + size > payload:len() then
        return wrong(tree, payload, "the bytes of " .. key .. " do not match its description")
      end
      if size > 0 then
        show_tensor(tree, payload(at, size), key, description.dtype, description.shape, notes)
      end
      at = at + size
    end
  end
  if at < payload:len() and at == 4 + length then
    -- Nothing says what they are.
    tree:add(f.opaque, payload(at))
  elseif at < payload:len() then
    wrong(tree, payload, (payload:len() - at) .. " bytes after the last tensor")
  end
end

local function list_of(range, words)
  local shown = {}
  for index = 0, math.min(words, SHOWN) - 1 do
    shown[#shown + 1] = range(4 * index, 4):uint()
  end
  local text = table.concat(shown, ", ")
  if words > SHOWN then
    text = text .. ", ..."
  end
  return text
end

local dissect_payload

-- Returns what was read, and where the fields end.
local function show_fields(message, payload, pinfo, tree, notes)
  local at, values, dtype = 0, {}, "float32"
  local function left()
    return payload:len() - at
  end
  local function short(field)
    wrong(tree, payload, message.name .. " ends before its field " .. field.name)
  end
  for _, field in ipairs(message.fields) do
    local there = true
    if field.zero then
      there = values[field.zero] == 0
    elseif field.not_zero then
      there = values[field.not_zero] ~= 0
    end
    if there then
      local shape
      local length = widths[field.kind]
      if field.kind == "text" then
        length = values[field.of]
      elseif field.kind == "numbers" and #field.of > 0 then
        length = 4
        for _, name in ipairs(field.of) do
          length = length * values[name]
        end
      elseif field.kind == "pairs" then
        length = 8 * values[field.of]
      elseif not length then
        length = left()
      end
      if length > left() then
        return short(field)
      end
      local range = length > 0 and payload(at, length)
      local value = widths[field.kind] and field.kind ~= "u64" and field.kind ~= "f32" and range:uint()
      if field.kind == "u16" or field.kind == "u32" then
        tree:add(f[field.name], range)
        if not string.find(field.name, "_length$") then
          notes[#notes + 1] = field.name .. "=" .. value
        end
      elseif field.kind == "u64" then
        tree:add(f[field.name], range)
        notes[#notes + 1] = field.name .. "=" .. tostring(range:uint64())
      elseif field.kind == "f32" then
        tree:add(f[field.name], range)
        notes[#notes + 1] = field.name .. "=" .. string.format("%.4g", range:float())
      elseif field.kind == "code" then
        tree:add(f[field.own], range)
        notes[#notes + 1] = field.names[value] or ("code " .. value)
      elseif field.kind == "flags" then
        local inner = tree:add(f[field.own], range)
        for _, flag in ipairs(field.bits) do
          inner:add(f[field.own .. "." .. string.lower(flag[2])], range)
          if value % (2 * flag[1]) >= flag[1] then
            notes[#notes + 1] = flag[2]
          end
        end
      elseif field.kind == "message" then
        tree:add(f[field.own], range)
        notes[#notes + 1] = "of " .. (types[value] or string.format("0x%02x", value))
      elseif field.kind == "element" then
        tree:add(f[field.name], range)
        dtype = element_names[value]
        if not dtype then
          return wrong(tree, payload, "unknown element code " .. value)
        end
      elseif field.kind == "text" or field.kind == "words" then
        local text = range and range:string(ENC_UTF_8) or ""
        if range then
          tree:add(f[field.name], range, text)
        end
        notes[#notes + 1] = field.kind == "text" and field.name .. "=" .. shorter(text) or shorter(text)
        value = text
      elseif field.kind == "json" then
        if not (range and show_json(range, pinfo, tree, notes)) then
          return wrong(tree, payload, field.name .. " is no JSON")
        end
      elseif field.kind == "piece" then
        if not range then
          return short(field)
        end
        tree:add(f[field.name], range)
        notes[#notes + 1] = length .. " bytes"
      elseif field.kind == "bytes" then
        if range then
          tree:add(f[field.name], range)
        end
        notes[#notes + 1] = length .. " bytes"
      elseif field.kind == "numbers" or field.kind == "pairs" then
        if not range or length % 4 ~= 0 then
          return wrong(tree, payload, length .. " bytes are no list of " .. field.name)
        end
        local count = math.floor(length / 4)
        local list = list_of(range, count)
        tree:add(f[field.name], range, list):append_text(" (" .. count .. ")")
        if field.name == "tokens" then
          notes[#notes + 1] = count == 1 and "token " .. list or count .. " tokens"
        end
      elseif field.kind == "tensor" then
        local known, rest = sizes[dtype], nil
        shape = {}
        for index, dimension in ipairs(field.shape) do
          local size = dimension == 1 and 1 or values[dimension]
          if size then
            shape[index], known = size, known * size
          else
            rest = index
          end
        end
        if rest and known > 0 then
          shape[rest], known = math.floor(length / known), math.floor(length / known) * known
        end
        if not range or known ~= length then
          return wrong(tree, payload, length .. " bytes are no " .. dtype .. " of that shape")
        end
        show_tensor(tree, range, field.name, dtype, shape, notes)
      end
      values[field.name] = value
      if field.kind == "piece" then
        values.piece = range
      end
      at = at + length
    end
  end
  if at ~= payload:len() then
    return wrong(tree, payload, (payload:len() - at) .. " bytes after the last field of " .. message.name)
  end
  return values
end

-- Messages in pieces: what has come of those under way, and which frame completed which.
local under_way, whole

function exo.init()
  under_way, whole = {}, {}
end

-- The whole payload, if this piece is its last.
local function join(values, pinfo)
  local way = tostring(tcp_stream()) .. " " .. tostring(pinfo.src) .. " " .. pinfo.src_port
  local key = way .. " " .. values.transfer
  local done = pinfo.number .. " " .. key
  if pinfo.visited then
    return whole[done]
  end
  local all = under_way[key]
  if values.offset == 0 then
    all = { length = 0, parts = {} }
    under_way[key] = all
  end
  if not all or all.length ~= values.offset or values.total > MOST then
    under_way[key] = nil
    return nil
  end
  local piece = values.piece
  all.parts[#all.parts + 1] = piece:raw()
  all.length = all.length + piece:len()
  if all.length >= values.total then
    under_way[key] = nil
    whole[done] = table.concat(all.parts)
  end
  return whole[done]
end

dissect_payload = function(number, payload, pinfo, tree, notes)
  local message = messages[number]
  if not message then
    if number >= skippable[1] and number <= skippable[2] then
      notes[#notes + 1] = "of a later version, may be missed"
    else
      wrong(tree, payload, string.format("unknown message 0x%02x", number))
    end
    return
  end
  local layout = message.layout
  if layout == "either" then
    local first = payload(0, 1):raw()
    layout = string.find(first, "[{ \t\r\n]") and "json" or "container"
  end
  if layout == "json" then
    if not show_json(payload(), pinfo, tree, notes) then
      -- A health check's payload may be anything.
      tree:add(f.opaque, payload())
      if number ~= 1 then
        wrong(tree, payload, message.name .. " is no JSON")
      end
    end
  elseif layout == "container" then
    show_container(payload, message.tensors, pinfo, tree, notes)
  elseif layout == "fields" then
    local values = show_fields(message, payload, pinfo, tree, notes)
    local all = values and values.piece and join(values, pinfo)
    if all then
      local tvb = ByteArray.new(all, true):tvb("Reassembled " .. (types[values.kind] or "message"))
      local inner = tree:add(exo, tvb(), "Reassembled " .. (types[values.kind] or "message"))
      inner:add(f.reassembled, tvb(), types[values.kind] or "")
      notes[#notes + 1] = "=> " .. (types[values.kind] or "message")
      dissect_payload(values.kind, tvb, pinfo, inner, notes)
    end
  else
    tree:add(f.opaque, payload())
  end
end

-- What is said of the messages of one call, in the packet list.
local told

local function frame(tvb, pinfo, tree)
  local size = tvb:reported_length_remaining()
  if size < HEADER or tvb(0, 4):raw() ~= magic then
    local inner = tree:add(exo, tvb())
    told[#told + 1] = "no frame begins here"
    wrong(inner, tvb, "no frame begins here: the capture began inside of one, or the bytes are damaged")
    return tvb:len()
  end
  local number, length = tvb(4, 1):uint(), tvb(5, 4):uint()
  local name = types[number] or string.format("0x%02x", number)
  local inner = tree:add(exo, tvb(), "EXO " .. name)
  inner:add(f.type, tvb(4, 1))
  inner:add(f.name, tvb(4, 1), name):set_generated()
  inner:add(f.length, tvb(5, 4))
  local notes = {}
  if length > 0 then
    dissect_payload(number, tvb(HEADER, length):tvb(), pinfo, inner, notes)
  elseif messages[number] and messages[number].layout == "fields" then
    wrong(inner, tvb, name .. " without its fields")
  end
  local words = table.concat(notes, " ")
  if #words > 0 then
    inner:append_text(" " .. words)
  end
  told[#told + 1] = name .. (#words > 0 and " " .. words or "")
  return tvb:len()
end

-- How long the frame at `at` is; the rest of what is there if none begins.
local function frame_length(tvb, pinfo, at)
  if tvb(at, 4):raw() ~= magic then
    return tvb:reported_length_remaining(at)
  end
  return HEADER + tvb(at + 5, 4):uint()
end

local function dissect(tvb, pinfo, tree)
  told = {}
  dissect_tcp_pdus(tvb, tree, HEADER, frame_length, frame)
  -- The dissector of JSON has written there, too.
  pinfo.cols.protocol = "EXO"
  if #told > 0 then
    pinfo.cols.info:clear()
    pinfo.cols.info:append(table.concat(told, "; ") .. " ")
    pinfo.cols.info:fence()
  end
  return tvb:len()
end

exo.dissector = dissect

-- Any port: a connection is ours once a segment begins with the magic.
exo:register_heuristic("tcp", function(tvb, pinfo, tree)
  if tvb:len() < 4 or tvb(0, 4):raw() ~= magic then
    return false
  end
  pinfo.conversation = exo
  -- Not by way of `exo.dissector`: that may not ask TCP for the rest of a frame here.
  dissect(tvb, pinfo, tree)
  return true
end)
DissectorTable.get("tcp.port"):add_for_decode_as(exo)

local function announced(tvb)
  if tvb:len() < 2 or tvb(0, 1):uint() ~= 0x7b then
    return nil
  end
  local json = parse(tvb:raw())
  return json and json.type == "discovery" and json
end

local function announce(tvb, pinfo, tree)
  local json = announced(tvb)
  if not json then
    return 0
  end
  local inner = tree:add(announcement, tvb())
  if type(json.node_id) == "string" then
    inner:add(f["announcement.node_id"], tvb(), json.node_id)
  end
  if type(json.grpc_port) == "number" then
    inner:add(f["announcement.port"], tvb(), json.grpc_port)
  end
  json_dissector:call(tvb, pinfo, inner)
  pinfo.cols.protocol = "EXO"
  pinfo.cols.info:clear()
  pinfo.cols.info:append(
    "announcement of " .. shorter(tostring(json.node_id)) .. ", port " .. tostring(json.grpc_port)
      .. ", " .. tostring(json.interface_name)
  )
  return tvb:len()
end

announcement.dissector = announce
DissectorTable.get("udp.port"):add(announcements, announcement)
announcement:register_heuristic("udp", function(tvb, pinfo, tree)
  return announced(tvb) ~= nil and announce(tvb, pinfo, tree) > 0
end)
