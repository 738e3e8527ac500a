# fish completion for agentbox: put it into ~/.config/fish/completions, or source it.
#
# The words go to agentbox as they stand on the line: nothing in them is expanded or run.

function __agentbox_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l program (string replace -r '^~/' "$HOME/" -- $words[1])
    type -q -- $program; or return
    set -l lines ($program __complete $words[2..-1] "$current" 2>/dev/null)
    string match -qr '^:[0-9]+$' -- "$lines[-1]"; or return
    set -l directive (string sub -s 2 -- $lines[-1])
    test (math "bitand($directive, 1)") = 0; or return
    set -l lead (string match -r -- '^-[^=]*=' "$current"; or echo) # of --flag=value it completes the value
    if test (count $lines) -gt 1
        printf '%s\n' $lead$lines[1..-2]
    else if test (math "bitand($directive, 4)") = 0
        __fish_complete_path "$current"
    end
end

complete -c agentbox -e
complete -c agentbox -f -a '(__agentbox_complete)'
