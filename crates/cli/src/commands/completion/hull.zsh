#compdef @BIN@
# zsh completion for @BIN@: `source <(@BIN@ completion zsh)`
_@BIN@() {
    local -a found
    local line name about
    while IFS= read -r line; do
        name=${line%%$'\t'*}
        about=${line#*$'\t'}
        found+=("${name//:/\\:}:${about}")
    done < <(@BIN@ __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)
    if (( ${#found} )); then
        _describe '@BIN@' found
    else
        _files
    fi
}
compdef _@BIN@ @BIN@
