{{/* tsp.pod.placement: where and when the scheduler may put a pod. Arguments as tsp.pod.template. */}}
{{- define "tsp.pod.placement" -}}
{{- $values := .root.Values -}}
{{- with $values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with $values.runtimeClassName }}
runtimeClassName: {{ . | quote }}
{{- end }}
{{- with include "tsp.pod.scheduler" . }}
schedulerName: {{ . | quote }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- include "tsp.texts" . | trim | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- include "tsp.items.withText" (dict "items" . "key" "value") | nindent 2 }}
{{- end }}
{{- with $values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with include "tsp.pod.affinity" . | fromJson }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/*
tsp.pod.affinity: JSON of the values' affinity, narrowed for pods with a GPU to the nodes of the plan, and with a liking for
the node, then the zone, that has other pods of the run. Workers wait for the master to be placed.
The terms of a node affinity are alternatives, so the plan's requirement joins every one of them.
*/}}
{{- define "tsp.pod.affinity" -}}
{{- $affinity := deepCopy (.root.Values.affinity | default dict) -}}
{{- $values := (include "tsp.gpu.plan" .root | fromJson).memoryValues -}}
{{- $majors := .root.Values.plan.computeMajors -}}
{{- if and .gpu (or $values $majors) -}}
{{- $requirements := list -}}
{{- if $values -}}
{{- $requirements = append $requirements (dict "key" (include "tsp.gpu.memoryLabel" .root) "operator" "In" "values" $values) -}}
{{- end -}}
{{- if $majors -}}
{{- $requirements = append $requirements (dict "key" "nvidia.com/gpu.compute.major" "operator" "In" "values" $majors) -}}
{{- end -}}
{{- $node := get $affinity "nodeAffinity" | default dict -}}
{{- $required := get $node "requiredDuringSchedulingIgnoredDuringExecution" | default dict -}}
{{- $terms := list -}}
{{- range get $required "nodeSelectorTerms" | default (list dict) -}}
{{- $expressions := concat (get . "matchExpressions" | default list) $requirements -}}
{{- $terms = append $terms (merge (dict "matchExpressions" $expressions) .) -}}
{{- end -}}
{{- $_ := set $node "requiredDuringSchedulingIgnoredDuringExecution" (dict "nodeSelectorTerms" $terms) -}}
{{- $_ := set $affinity "nodeAffinity" $node -}}
{{- end -}}
{{- if and .root.Values.keepTogether .ranks (gt (include "tsp.job.pods" .root | int) 1) -}}
{{- $pods := get $affinity "podAffinity" | default dict -}}
{{- $selector := dict "matchLabels" (include "tsp.run.selector" .root | fromYaml) -}}
{{- $terms := get $pods "preferredDuringSchedulingIgnoredDuringExecution" | default list -}}
{{- range $key, $weight := dict "kubernetes.io/hostname" 100 "topology.kubernetes.io/zone" 50 -}}
{{- $terms = append $terms (dict "weight" $weight "podAffinityTerm" (dict "topologyKey" $key "labelSelector" $selector)) -}}
{{- end -}}
{{- $_ := set $pods "preferredDuringSchedulingIgnoredDuringExecution" $terms -}}
{{- $_ := set $affinity "podAffinity" $pods -}}
{{- end -}}
{{- if and .worker (eq (include "tsp.job.masterFirst" .root) "true") -}}
{{- $pods := get $affinity "podAffinity" | default dict -}}
{{- $labels := dict "training.kubeflow.org/job-name" (include "tsp.run.name" .root) "training.kubeflow.org/replica-type" "master" -}}
{{- $terms := get $pods "requiredDuringSchedulingIgnoredDuringExecution" | default list -}}
{{- /* A label that is the same on all nodes: the master may be anywhere, as long as it is somewhere. */ -}}
{{- $terms = append $terms (dict "topologyKey" "kubernetes.io/os" "labelSelector" (dict "matchLabels" $labels)) -}}
{{- $_ := set $pods "requiredDuringSchedulingIgnoredDuringExecution" $terms -}}
{{- $_ := set $affinity "podAffinity" $pods -}}
{{- end -}}
{{- toJson $affinity -}}
{{- end -}}

{{/*
tsp.job.masterFirst: "true" where workers are placed only once the master is. A worker without its master waits in the training
operator's init container, where nothing of ours can count how long it has held its GPU. Not with another scheduler: one that
places all pods of a run or none would wait for ever for workers that wait for the master.
*/}}
{{- define "tsp.job.masterFirst" -}}
{{- $values := .Values -}}
{{- $served := .Capabilities.APIVersions -}}
{{- $ganged := or (has $values.gang (list "volcano" "coscheduling")) $values.schedulerName -}}
{{- range $api := list "scheduling.volcano.sh/v1beta1" "scheduling.x-k8s.io/v1alpha1" -}}
{{- $ganged = or $ganged ($served.Has $api) -}}
{{- end -}}
{{- and $values.masterFirst (not $ganged) -}}
{{- end -}}

{{/*
tsp.pod.scheduler: the scheduler of the pods. The training operator names a gang's itself where it is started with one;
Kubeflow Trainer leaves it to the pods. Arguments as tsp.pod.template.
*/}}
{{- define "tsp.pod.scheduler" -}}
{{- $gangs := dict "volcano" "volcano" "coscheduling" "scheduler-plugins-scheduler" -}}
{{- if .root.Values.schedulerName -}}{{ .root.Values.schedulerName }}
{{- else if and .ranks (eq (include "tsp.job.api" .root) "trainjob") -}}{{ get $gangs .root.Values.gang }}
{{- end -}}
{{- end -}}
