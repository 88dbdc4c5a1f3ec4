# SPDX-License-Identifier: MIT
#
# Shows Doxygen a header as its readers see it: the declarations, each block of a comment under a heading, and one entry
# for all overloads under one comment, which lists their declarations. In guides, the pictures' paths become those from
# the top folder.

# The line without its comment and without literals, so that brackets can be counted.
function code_of(text) {
  gsub(/"([^"\\]|\\.)*"|'([^'\\]|\\.)'/, "0", text)
  sub(/[ \t]*\/\/.*$/, "", text)
  return text
}

# The name of the function that is declared from line i on, with its parenthesis; "" if it is no function.
function function_name(i,    text, name) {
  for (; i <= count; ++i) {
    text = code_of(line[i])
    if (text ~ /^ *(template <.*> )?(using|concept) /) return ""
    while (match(text, /(operator *(\(\)|\[\]|[-+*\/%<>=!&|^~]+) *|[A-Za-z_][A-Za-z_0-9]*)\(/)) {
      name = substr(text, RSTART, RLENGTH)
      if (name !~ /^(requires|explicit|noexcept|decltype|alignas|sizeof)\($/) return name
      text = substr(text, RSTART + RLENGTH)
    }
    if (text ~ /[;{}]$/) return ""
  }
  return ""
}

# The line in which the declaration, or definition, that begins in line i ends.
function last_line(i,    depth, text) {
  depth = 0
  for (; i <= count; ++i) {
    text = code_of(line[i])
    depth += gsub(/[({[]/, "&", text) - gsub(/[)}\]]/, "&", text)
    if (depth <= 0 && text ~ /[;}]$/) return i
  }
  return count
}

# Appends the declaration in lines first to last to those listed in the entry of line `entry`, without the body and the
# first line's indentation.
function list(entry, first, last,    i, k, c, depth, indentation, text, cut) {
  match(line[first], /^ */)
  indentation = RLENGTH
  depth = 0
  for (i = first; i <= last; ++i) {
    text = code_of(line[i])
    cut = 0
    for (k = 1; k <= length(text) && !cut; ++k) {
      c = substr(text, k, 1)
      if (depth == 0 && (c == "{" || (c == ":" && substr(text, k - 1, 3) == " : "))) cut = k
      else if (c ~ /[({[]/) ++depth
      else if (c ~ /[)}\]]/) --depth
    }
    if (cut) {
      text = substr(text, 1, cut - 1)
      sub(/ +$/, "", text)
      text = text ";"
    }
    listed[entry, ++listed_count[entry]] = substr(text, indentation + 1)
    if (cut) break
  }
  for (i = first; i <= last; ++i) line[i] = ""
}

# "/// Shape: …" gets a heading: see the alias.
function with_heading(text,    start, heading) {
  if (!match(text, /^ *\/\/\/ (Shape|Throws|Complexity|Lifetime|Source)(, (Throws|Complexity))*: /)) return text
  start = index(text, "///") + 4
  heading = substr(text, start, RLENGTH - start - 1)
  gsub(/,/, "\\,", heading)
  return substr(text, 1, start - 1) "\\block{" heading "} " substr(text, RLENGTH + 1)
}

{
  # The namespace of the version is for linkers, not for readers.
  sub(/^namespace gpt2::inline GPT2_EMBEDDINGS_ABI {/, "namespace gpt2 {")
  hidden = $0 ~ /^#define GPT2_EMBEDDINGS_ABI/ || (hidden && continued)
  continued = $0 ~ /\\$/
  line[++count] = hidden ? "" : $0
}

END {
  if (FILENAME !~ /\.hpp$/) {
    for (i = 1; i <= count; ++i) {
      gsub(/\]\(\.\.\/\.\.\//, "](", line[i])
      print line[i]
    }
    exit
  }
  # Overloads of a documented function: those of its name that follow without a comment or an empty line, and those of
  # a namespace's function that come anywhere after it.
  for (i = 1; i <= count && line[i] !~ /^\/\/ Implementation\./; ++i) {
    if (line[i] ~ /^ *\/\/\/ / && line[i + 1] !~ /^ *(\/\/|$)/ && (name = function_name(i + 1)) != "") {
      if (line[i + 1] ~ /^[^ ]/) entry_of[name] = i
      end = last_line(i + 1)
      while (end < count && line[end + 1] !~ /^ *(\/\/|}|$)/ && function_name(end + 1) == name) {
        start = end + 1
        end = last_line(start)
        list(i, start, end)
      }
      i = end
    } else if (line[i] ~ /^(template <|\[\[nodiscard\]\])/ && (name = function_name(i)) in entry_of) {
      end = last_line(i)
      list(entry_of[name], i, end)
      i = end
    }
  }
  for (i = 1; i <= count; ++i) {
    # All headers have one namespace open where their declarations end.
    if (line[i] ~ /^\/\/ Implementation\./) {
      print "}"
      exit
    }
    print with_heading(line[i])
    if (listed_count[i] > 0) {
      print "/// \\overloads"
      for (k = 1; k <= listed_count[i]; ++k) print "/// " listed[i, k]
      print "/// \\endcode"
    }
  }
}
