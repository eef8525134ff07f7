{{/*
tsp.pod.template: the pod of ranks or of a shard. Arguments: root, container (its name: the operator insists on
"pytorch", Kubeflow Trainer on "node"), command (a list), gpu (whether it holds any), ranks (of a training pod, each with
a GPU of its own; else none), worker (whether it is a PyTorchJob's, and no master).
*/}}
{{- define "tsp.pod.template" -}}
{{- $ := .root -}}
{{- $ranks := .ranks | default 1 | int -}}
{{- $values := .root.Values -}}
metadata:
  labels:
    {{- include "tsp.run.labels" $ | nindent 4 }}
    {{- with $values.podLabels }}
    {{- include "tsp.texts" . | trim | nindent 4 }}
    {{- end }}
  annotations:
    kubectl.kubernetes.io/default-container: {{ .container }}
    {{- if gt $ranks 1 }}
    tspctl/ranks-per-pod: {{ $ranks | quote }}
    {{- end }}
    {{- with $values.podAnnotations }}
    {{- include "tsp.texts" . | trim | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "tsp.serviceAccount.name" $ | quote }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- if .restartPolicy }}
  restartPolicy: {{ .restartPolicy }}
  {{- end }}
  terminationGracePeriodSeconds: {{ int $values.gracePeriodSeconds }}
  {{- if and (eq .container "pytorch") (not (kindIs "invalid" $values.runPolicy.activeDeadlineSeconds)) }}
  # The training operator looks at the job's deadline only when a pod changes: a pod that ends makes it look.
  # https://github.com/kubeflow/training-operator/blob/v1.9.3/pkg/common/util/fake_workqueue.go
  activeDeadlineSeconds: {{ int $values.runPolicy.activeDeadlineSeconds }}
  {{- end }}
  securityContext:
    {{- toYaml $values.podSecurityContext | nindent 4 }}
  {{- with $values.image.pullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . | quote }}
    {{- end }}
  {{- end }}
  {{- include "tsp.pod.placement" . | trim | nindent 2 }}
  containers:
    - name: {{ .container }}
      image: {{ include "tsp.image.ref" $ | quote }}
      imagePullPolicy: {{ $values.image.pullPolicy }}
      # The last words of a rank that failed; tspctl status shows them.
      terminationMessagePolicy: FallbackToLogsOnError
      command:
        {{- toYaml .command | nindent 8 }}
      env:
        {{- include "tsp.pod.env" $ | nindent 8 }}
        {{- if gt $ranks 1 }}
        - name: TSP_RANKS_PER_POD
          value: {{ $ranks | quote }}
        {{- end }}
        {{- if eq $values.job.kind "train" }}
        # How many data workers there are by default.
        - name: TSP_CPUS
          valueFrom:
            resourceFieldRef:
              resource: requests.cpu
        {{- end }}
        {{- if and .gpu $values.gpuResource $values.requireGpu }}
        # Then the CPU is no substitute: a pod that finds no usable GPU ends and says why.
        - name: TSP_NEEDS_GPU
          value: "1"
        {{- end }}
      {{- with $values.extraEnvFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      resources:
        {{- include "tsp.pod.resources" . | nindent 8 }}
      securityContext:
        {{- toYaml $values.securityContext | nindent 8 }}
      volumeMounts:
        {{- include "tsp.pod.mounts" $ | nindent 8 }}
  volumes:
    {{- include "tsp.pod.volumes" . | nindent 4 }}
{{- end -}}

{{/*
tsp.pod.requests: JSON of what a pod asks for where the values do not say: for each training rank one CPU more than it has
data workers, and memory for its /dev/shm, which counts as the container's. Arguments as tsp.pod.template.
*/}}
{{- define "tsp.pod.requests" -}}
{{- $values := .root.Values -}}
{{- if eq $values.job.kind "train" -}}
{{- $workers := get ($values.set | default dict) "data.workers" -}}
{{- if $values.config -}}{{- $workers = dig "data" "workers" nil (fromJson $values.config) -}}{{- end -}}
{{- /* Where nobody says: the ranks then take as many as this request has room for. */ -}}
{{- if or (kindIs "invalid" $workers) (eq (toString $workers) "") -}}{{- $workers = 4 -}}{{- end -}}
{{- $shmMib := include "tsp.gpu.memoryMib" $values.shm.sizeLimit | int64 -}}
{{- $ranks := .ranks | default 1 | int64 -}}
{{- dict "cpu" (add (int $workers) 1 | mul $ranks | toString) "memory" (printf "%dMi" (add $shmMib 2048 | mul $ranks)) | toJson -}}
{{- else -}}
{{- dict "cpu" "500m" "memory" "2Gi" | toJson -}}
{{- end -}}
{{- end -}}

{{/* tsp.pod.resources: requests and limits; a GPU is always a limit, one for each rank. A limit is a request, too. */}}
{{- define "tsp.pod.resources" -}}
{{- $resources := deepCopy (.root.Values.resources | default dict) -}}
{{- $requests := get $resources "requests" | default dict -}}
{{- range $key, $value := include "tsp.pod.requests" . | fromJson -}}
{{- /* 0 is a request, too. */ -}}
{{- if not (or (hasKey $requests $key) (hasKey (get $resources "limits" | default dict) $key)) -}}
{{- $_ := set $requests $key $value -}}
{{- end -}}
{{- end -}}
{{- $_ := set $resources "requests" $requests -}}
{{- if and .gpu .root.Values.gpuResource -}}
{{- range $part := list "limits" "requests" -}}
{{- if hasKey (get $resources $part | default dict) $.root.Values.gpuResource -}}
{{- fail (printf "resources.%s contains %s: the chart sets it to the ranks of a pod; use gpus and gpusPerPod" $part $.root.Values.gpuResource) -}}
{{- end -}}
{{- end -}}
{{- $resources = merge (dict "limits" (dict .root.Values.gpuResource (.ranks | default 1 | toString))) $resources -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end -}}

{{/* tsp.pod.env: environment of a container. Credentials come from an existing Secret and nowhere else. */}}
{{- define "tsp.pod.env" -}}
{{- $store := .Values.store -}}
- name: TSP_CONFIG
  value: /etc/tsp/config.json
- name: HOME
  value: /tmp
- name: XDG_CACHE_HOME
  value: /cache
- name: TORCH_HOME
  value: /cache/torch
- name: TSP_IMAGE
  value: {{ include "tsp.image.ref" . | quote }}
{{- if $store.caConfigMap }}
- name: AWS_CA_BUNDLE
  value: {{ include "tsp.store.caPath" . | quote }}
{{- end }}
{{- with .Values.numThreads }}
- name: TSP_NUM_THREADS
  value: {{ int . | quote }}
{{- end }}
{{- if eq .Values.job.kind "train" }}
# Two namespaces or clusters that share a store do not train one run.
- name: TSP_OWNER
  value: {{ include "tsp.run.owner" . | quote }}
{{- end }}
{{- if ne .Values.job.kind "train" }}
- name: TSP_NUM_SHARDS
  value: {{ int .Values.job.shards | quote }}
{{- end }}
{{- with $store.existingSecret }}
- name: AWS_ACCESS_KEY_ID
  valueFrom: {secretKeyRef: {name: {{ . | quote }}, key: {{ $store.secretKeys.accessKeyId | quote }}}}
- name: AWS_SECRET_ACCESS_KEY
  valueFrom: {secretKeyRef: {name: {{ . | quote }}, key: {{ $store.secretKeys.secretAccessKey | quote }}}}
- name: AWS_SESSION_TOKEN
  valueFrom: {secretKeyRef: {name: {{ . | quote }}, key: {{ $store.secretKeys.sessionToken | quote }}, optional: true}}
{{- end }}
{{- range .Values.extraEnv }}
{{- $text := .value | default "" | toString }}
{{- if and $text (not (hasPrefix "/" $text)) (regexMatch "(?i)(^|_)(TOKEN|SECRET|PASSW(OR)?D|PASSPHRASE|CREDENTIALS?|API_?KEY|ACCESS_KEY(_ID)?|(SECRET|PRIVATE)_KEY)$" .name) }}
{{- fail (printf "extraEnv contains %s in clear text: name a Secret in store.existingSecret or extraEnvFrom, or use valueFrom" .name) }}
{{- end }}
{{- if regexMatch "^[A-Za-z][A-Za-z0-9+.-]*://[^/]*@" $text }}
{{- fail (printf "the address in extraEnv %s contains a user name or password: use valueFrom with a Secret" .name) }}
{{- end }}
{{- end }}
{{- with .Values.extraEnv }}
{{ include "tsp.items.withText" (dict "items" . "key" "value") }}
{{- end }}
{{- end -}}

{{/* tsp.pod.mounts: the root file system is read-only, so everything that is written has a volume. */}}
{{- define "tsp.pod.mounts" -}}
- {name: config, mountPath: /etc/tsp, readOnly: true}
- {name: shm, mountPath: /dev/shm}
- {name: tmp, mountPath: /tmp}
- {name: cache, mountPath: /cache}
{{- if .Values.data.claim }}
- {name: data, mountPath: {{ .Values.data.mountPath | quote }}, readOnly: {{ .Values.data.readOnly }}}
{{- end }}
{{- if .Values.store.caConfigMap }}
- {name: store-ca, mountPath: /etc/tsp-ca, readOnly: true}
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* tsp.pod.shm: the largest /dev/shm of a pod, which its ranks share. Arguments as tsp.pod.template. */}}
{{- define "tsp.pod.shm" -}}
{{- $limit := .root.Values.shm.sizeLimit -}}
{{- if gt (.ranks | default 1 | int) 1 -}}
{{- printf "%dMi" (include "tsp.gpu.memoryMib" $limit | int64 | mul .ranks) -}}
{{- else -}}
{{- $limit -}}
{{- end -}}
{{- end -}}

{{/* tsp.pod.volumes: what tsp.pod.mounts mounts. Arguments as tsp.pod.template. */}}
{{- define "tsp.pod.volumes" -}}
{{- $values := .root.Values -}}
- name: config
  configMap: {name: {{ include "tsp.config.name" .root | quote }}}
- name: shm
  emptyDir: {medium: Memory, sizeLimit: {{ include "tsp.pod.shm" . | quote }}}
- name: tmp
  emptyDir: {{ ternary (dict "sizeLimit" $values.tmp.sizeLimit) dict (not (empty $values.tmp.sizeLimit)) | toJson }}
- name: cache
{{- if $values.cache.claim }}
  persistentVolumeClaim: {claimName: {{ $values.cache.claim | quote }}}
{{- else }}
  emptyDir: {{ ternary (dict "sizeLimit" $values.cache.sizeLimit) dict (not (empty $values.cache.sizeLimit)) | toJson }}
{{- end }}
{{- with $values.data.claim }}
- name: data
  persistentVolumeClaim: {claimName: {{ . | quote }}}
{{- end }}
{{- with $values.store.caConfigMap }}
- name: store-ca
  configMap: {name: {{ . | quote }}}
{{- end }}
{{- with $values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}
