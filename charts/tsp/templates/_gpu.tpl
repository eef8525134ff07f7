{{/*
tsp.gpu.memoryMib: whole MiB of a GPU from a node label, units repaired: "16384", "42505273344" (bytes), "80Gi".
Argument: the label. The same rule as tsp/config/sizing.py, gpu_memory_mib.
*/}}
{{- define "tsp.gpu.memoryMib" -}}
{{- $text := ternary (int64 .) . (kindIs "float64" .) | toString | trim -}}
{{- if not (regexMatch (include "tsp.gpu.size" .) $text) -}}
{{- fail (printf "GPU memory %q is not a size: expected MiB, bytes, or a number with the unit Gi or Mi" $text) -}}
{{- end -}}
{{- $number := regexFind "^[0-9]+([.][0-9]+)?" $text -}}
{{- $unit := trimPrefix $number $text | trim | lower | trimSuffix "b" -}}
{{- $mib := dict
  "" 1.0 "ki" (divf 1.0 1024.0) "mi" 1.0 "gi" 1024.0 "ti" 1048576.0
  "k" (divf 1e3 1048576.0) "m" (divf 1e6 1048576.0) "g" (divf 1e9 1048576.0) "t" (divf 1e12 1048576.0) -}}
{{- if and (eq $unit "") (ge (float64 $number) 268435456.0) -}}
{{- divf (float64 $number) 1048576.0 | floor | int64 -}}
{{- else -}}
{{- mulf (float64 $number) (get $mib $unit) | floor | int64 -}}
{{- end -}}
{{- end -}}

{{/* tsp.gpu.size: what a size of memory looks like, as a regular expression. */}}
{{- define "tsp.gpu.size" -}}
^[0-9]+([.][0-9]+)?\s*([kKmMgGtT]i?)?[bB]?$
{{- end -}}

{{/*
tsp.gpu.downscale: 1, 2 or 4 for a GPU of so many MiB; refuses less than 7000.
Argument: MiB. The same thresholds as tsp/config/sizing.py, DOWNSCALE_MIN_MIB.
*/}}
{{- define "tsp.gpu.downscale" -}}
{{- $mib := int64 . -}}
{{- if ge $mib 29000 -}}1
{{- else if ge $mib 14000 -}}2
{{- else if ge $mib 7000 -}}4
{{- else -}}
{{- fail (printf "a GPU with %d MiB is too small: at least 7000 MiB are needed; choose other nodes or set downscale" $mib) -}}
{{- end -}}
{{- end -}}

{{/*
tsp.gpu.memoryLabel: the node label with a card's memory. The parts of a card that MIG makes have one for each of their
resources.
*/}}
{{- define "tsp.gpu.memoryLabel" -}}
{{- if and (hasPrefix "nvidia.com/mig-" .Values.gpuResource) (eq .Values.plan.memoryLabel "nvidia.com/gpu.memory") -}}
{{ trimSuffix ".shared" .Values.gpuResource }}.memory
{{- else -}}
{{ .Values.plan.memoryLabel }}
{{- end -}}
{{- end -}}

{{/*
tsp.gpu.plan: JSON of {"downscale", "memoryValues", "note"}: the factor ("auto" leaves it to the pods) and the values of
the memory label that pods may land on (none: anywhere). What tspctl planned, or gpuMemory, or what lookupNodes finds.
*/}}
{{- define "tsp.gpu.plan" -}}
{{- $downscale := .Values.downscale | toString -}}
{{- $values := .Values.plan.memoryValues -}}
{{- $note := .Values.plan.note -}}
{{- if and .Values.lookupNodes (not $values) .Values.gpuResource -}}
{{- $smallest := 0 -}}
{{- range (lookup "v1" "Node" "" "").items -}}
{{- $node := . -}}
{{- if include "tsp.gpu.landsOn" (dict "node" $node "Values" $.Values "memoryLabel" (include "tsp.gpu.memoryLabel" $)) -}}
{{- $label := dig "metadata" "labels" (include "tsp.gpu.memoryLabel" $) "" $node -}}
{{- $slots := include "tsp.gpu.slots" (dict "node" $node "resource" $.Values.gpuResource) | int64 -}}
{{- if and (gt $slots 1) (gt (int $.Values.gpus) 1) -}}
{{- fail (printf "the GPUs of %s are time-sliced, and NCCL refuses two ranks on one GPU: keep ranks off such nodes with nodeSelector, or set gpus=1" $node.metadata.name) -}}
{{- end -}}
{{- $mib := div (include "tsp.gpu.memoryMib" $label | int64) $slots -}}
{{- if ge $mib (int64 (get (dict "auto" 7000 "4" 7000 "2" 14000 "1" 29000) $downscale)) -}}
{{- $values = append $values $label | uniq | sortAlpha -}}
{{- if or (eq (int64 $smallest) 0) (lt $mib (int64 $smallest)) -}}{{- $smallest = $mib -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and $values (eq $downscale "auto") -}}
{{- $downscale = include "tsp.gpu.downscale" $smallest -}}
{{- $note = printf "the smallest GPU that pods can land on has %d MiB, so the downscale factor is %s" (int64 $smallest) $downscale -}}
{{- end -}}
{{- else if and .Values.gpuMemory (eq $downscale "auto") -}}
{{- $mib := include "tsp.gpu.memoryMib" .Values.gpuMemory -}}
{{- $downscale = include "tsp.gpu.downscale" $mib -}}
{{- $note = printf "gpuMemory is %s MiB, so the downscale factor is %s" $mib $downscale -}}
{{- end -}}
{{- dict "downscale" $downscale "memoryValues" $values "note" $note | toJson -}}
{{- end -}}

{{/*
tsp.gpu.slots: the ranks that share a GPU of a node in time, and its memory. Arguments: node, resource. The same rule as
k8s/nodes.py, _slots.
*/}}
{{- define "tsp.gpu.slots" -}}
{{- $labels := dig "metadata" "labels" dict .node -}}
{{- $labelled := trimSuffix ".shared" .resource -}}
{{- $slots := get $labels (printf "%s.replicas" $labelled) | int -}}
{{- max $slots (ternary 2 1 (hasSuffix "-SHARED" (get $labels (printf "%s.product" $labelled)))) -}}
{{- end -}}

{{/*
tsp.gpu.landsOn: "yes" if pods can land on a node: labelled with GPU memory that is a size, GPUs allocatable, schedulable,
nodeSelector matched, taints tolerated. Arguments: node, Values, memoryLabel. (Affinity of the values is left to the scheduler.)
*/}}
{{- define "tsp.gpu.landsOn" -}}
{{- $labels := dig "metadata" "labels" dict .node -}}
{{- $gpus := dig "status" "allocatable" dict .node -}}
{{- $fits := regexMatch (include "tsp.gpu.size" .) (get $labels .memoryLabel | toString | trim) -}}
{{- /* A quantity: a thousand is written 1k. */ -}}
{{- if not (regexMatch "^[1-9]" (get $gpus .Values.gpuResource | toString)) -}}{{- $fits = false -}}{{- end -}}
{{- if dig "spec" "unschedulable" false .node -}}{{- $fits = false -}}{{- end -}}
{{- range $key, $value := .Values.nodeSelector -}}
{{- if ne (get $labels $key | toString) ($value | toString) -}}{{- $fits = false -}}{{- end -}}
{{- end -}}
{{- range $taint := dig "spec" "taints" list .node -}}
{{- $tolerated := eq $taint.effect "PreferNoSchedule" -}}
{{- range $.Values.tolerations -}}
{{- $key := or (not .key) (eq .key $taint.key) -}}
{{- $value := or (eq (.operator | default "Equal") "Exists") (eq (.value | default "" | toString) ($taint.value | default "" | toString)) -}}
{{- $effect := or (not .effect) (eq .effect $taint.effect) -}}
{{- if and $key $value $effect -}}{{- $tolerated = true -}}{{- end -}}
{{- end -}}
{{- if not $tolerated -}}{{- $fits = false -}}{{- end -}}
{{- end -}}
{{- if $fits -}}yes{{- end -}}
{{- end -}}
