# bash completion for @BIN@: `source <(@BIN@ completion bash)`
_@BIN@_complete() {
    local line name
    COMPREPLY=()
    while IFS= read -r line; do
        name=${line%%$'\t'*}
        COMPREPLY+=("$name")
    done < <(@BIN@ __complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    # Names such as nginx:latest: bash takes the colon for the beginning of a new word.
    if [[ ${COMP_WORDS[COMP_CWORD]} == *:* ]] && declare -F __ltrimcolon_completions >/dev/null; then
        __ltrimcolon_completions "${COMP_WORDS[COMP_CWORD]}"
    fi
}
complete -o bashdefault -o default -F _@BIN@_complete @BIN@
