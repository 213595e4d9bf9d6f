# Makes an SVG of what a terminal has shown: text with colours of ANSI escapes. Other escapes, and
# what was written over on a line, are left out.

BEGIN {
    esc = sprintf("%c", 27)
    colour[31] = "#ff7b72"
    colour[32] = "#7ee787"
    colour[33] = "#e3b341"
    colour[34] = "#79c0ff"
    colour[36] = "#76e3ea"
    colour[90] = "#8b949e"
    columns = 98
    left = 20
    top = 56
    height = 19
    count = 0
}

{
    sub(/\r+$/, "")
    sub(/^.*\r/, "")
    # all sequences but those of colours and weight
    gsub(esc "\\[[0-9;?]*[A-Zac-ln-z]", "")
    gsub(esc "[=>]", "")
    wrap($0)
}

# Breaks a line where the terminal is full. A colour goes on in the next one.
function wrap(line,    out, shown, code) {
    out = ""
    shown = 0
    code = ""
    while (line != "") {
        if (match(line, "^" esc "\\[[0-9;]*m")) {
            code = substr(line, 1, RLENGTH)
            out = out code
            line = substr(line, RLENGTH + 1)
            continue
        }
        if (shown == columns) {
            lines[++count] = out
            out = code
            shown = 0
        }
        out = out substr(line, 1, 1)
        line = substr(line, 2)
        shown++
    }
    lines[++count] = out
}

END {
    while (count > 0 && lines[count] ~ /^[ \t]*$/) count--
    print "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"860\" height=\"" top + count * height + 8 "\""
    print "  role=\"img\" aria-label=\"A terminal with a run of osync, its history, and a file put back\""
    print "  font-family=\"ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace\""
    print "  font-size=\"14\" fill=\"#c9d1d9\">"
    print "<rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#0d1117\"/>"
    print "<circle cx=\"22\" cy=\"20\" r=\"6\" fill=\"#ff5f57\"/>"
    print "<circle cx=\"42\" cy=\"20\" r=\"6\" fill=\"#febc2e\"/>"
    print "<circle cx=\"62\" cy=\"20\" r=\"6\" fill=\"#28c840\"/>"
    for (at = 1; at <= count; at++) {
        if (lines[at] == "") continue
        printf "<text x=\"%d\" y=\"%d\" xml:space=\"preserve\">%s</text>\n", \
            left, top + (at - 1) * height, spans(lines[at])
    }
    print "</svg>"
}

# A line as text of an SVG, each piece in its colour and weight.
function spans(line,    out, codes, numbers, total, i) {
    out = ""
    fill = ""
    weight = ""
    while (match(line, esc "\\[[0-9;]*m")) {
        out = out piece(substr(line, 1, RSTART - 1))
        codes = substr(line, RSTART + 2, RLENGTH - 3)
        line = substr(line, RSTART + RLENGTH)
        total = split(codes == "" ? "0" : codes, numbers, ";")
        for (i = 1; i <= total; i++) {
            if (numbers[i] + 0 == 0) {
                fill = ""
                weight = ""
            } else if (numbers[i] + 0 == 1) {
                weight = " font-weight=\"bold\""
            } else if (numbers[i] + 0 in colour) {
                fill = " fill=\"" colour[numbers[i] + 0] "\""
            }
        }
    }
    return out piece(line)
}

function piece(text) {
    if (text == "") return ""
    gsub(/&/, "\\&amp;", text)
    gsub(/</, "\\&lt;", text)
    gsub(/>/, "\\&gt;", text)
    if (fill weight == "") return text
    return "<tspan" fill weight ">" text "</tspan>"
}
