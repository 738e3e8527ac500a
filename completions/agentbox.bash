# bash completion for agentbox: source it, or put it where bash-completion finds it under the name "agentbox".
#
# The words go to agentbox as they stand on the line: nothing in them is expanded or run.

_agentbox()
{
    local IFS=$' \t\n' rest=${COMP_LINE:0:COMP_POINT} i word before
    local -a words=()

    # bash splits words at ":" and "=" too. What no blank parts on the line is one word here.
    for ((i = 0; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        before=$rest
        rest=${rest#"${rest%%[![:space:]]*}"}
        if ((i == 0)) || [[ $rest != "$before" ]]; then
            words+=("$word")
        else
            words[${#words[@]} - 1]+=$word
        fi
        rest=${rest#"$word"}
    done

    local current=${words[${#words[@]} - 1]} out line directive
    local program=${words[0]/#\~\//$HOME/}
    out=$("$program" __complete "${words[@]:1}" 2>/dev/null) || return 0
    directive=${out##*:}
    [[ $directive =~ ^[0-9]+$ ]] || return 0
    ((directive & 1)) && return 0
    out=${out%:*}

    # Of --flag=value agentbox completes the value.
    [[ $current != -*=* ]] || current=${current#*=}

    # Only what stands behind the last ":" or "=" of the word is bash's own word.
    local lead=${current%"${current##*[:=]}"}
    [[ $COMP_WORDBREAKS == *:* ]] || lead=${current%"${current##*=}"}
    COMPREPLY=()
    local -a full=()
    while IFS= read -r line; do
        word=${line%%$'\t'*}
        [[ -n $word && $word == "$current"* ]] || continue
        COMPREPLY+=("${word#"$lead"}")
        full+=("$line")
    done <<<"$out"

    # Several ways on, listed: their descriptions stand beside them. COMP_TYPE 63 is "?", a list.
    if ((${#COMPREPLY[@]} > 1)) && [[ ${COMP_TYPE-} == 63 ]]; then
        local width=0 shown
        for word in "${COMPREPLY[@]}"; do ((${#word} > width)) && width=${#word}; done
        for ((i = 0; i < ${#full[@]}; i++)); do
            if [[ ${full[i]} == *$'\t'* ]]; then
                printf -v shown "%-${width}s  (%s)" "${COMPREPLY[i]}" "${full[i]#*$'\t'}"
                COMPREPLY[i]=${shown:0:${COLUMNS:-80}}
            fi
        done
    fi

    ((directive & 2)) && compopt -o nospace 2>/dev/null
    if ((${#COMPREPLY[@]} == 0)) && ! ((directive & 4)); then
        compopt -o default 2>/dev/null
    fi
    return 0
}

complete -F _agentbox agentbox
