#!/bin/sh
# A driver for vmw-cloudinit-metadata: the file <UUID>.yaml in the directory that is its argument.
echo '{"vmw-cloudinit-driver": 1}'
while read -r line; do
    id=${line#*'"id":'} id=${id%%,*}
    uuid=${line#*'"uuid":"'} uuid=${uuid%%'"'*}
    case $uuid in ''|*[!0-9a-f-]*) uuid=none ;; esac
    if document=$(base64 "$1/$uuid.yaml" 2>&1); then
        printf '{"id":%s,"document-base64":"%s"}\n' "$id" "$(echo "$document" | tr -d '\n')"
    elif [ -e "$1/$uuid.yaml" ]; then
        printf '{"id":%s,"error":"unavailable","message":"can not be read"}\n' "$id"
    else
        printf '{"id":%s,"error":"not-found"}\n' "$id"
    fi
done
