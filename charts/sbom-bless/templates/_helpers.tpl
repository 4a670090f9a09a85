{{- define "sbom-bless.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "sbom-bless.fullname" -}}
{{- $name := include "sbom-bless.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "sbom-bless.selector" -}}
app.kubernetes.io/name: {{ include "sbom-bless.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "sbom-bless.labels" -}}
{{ include "sbom-bless.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "sbom-bless.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- .Values.serviceAccount.name | default (include "sbom-bless.fullname" .) }}
{{- else }}
{{- .Values.serviceAccount.name | default "default" }}
{{- end }}
{{- end }}

{{- define "sbom-bless.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}
{{- end }}

{{- /* The file that the agent follows. It reads the certificates anew when this text changes, so
that has their digest. */ -}}
{{- define "sbom-bless.policy" -}}
{{- $policy := deepCopy .Values.policy }}
{{- if and .Values.certificates (not (hasKey $policy "keys")) }}
{{- $keys := list }}
{{- range $name := keys .Values.certificates | sortAlpha }}
{{- $keys = append $keys (printf "/etc/sbom-bless/%s" $name) }}
{{- end }}
{{- $_ := set $policy "keys" $keys }}
{{- end }}
{{- if not (or $policy.keys $policy.identities) }}
{{- fail "nobody is trusted: name a signer of your images\nhint: --set-file 'certificates.bless\\.crt=bless.crt', or policy.keys, or policy.identities" }}
{{- end -}}
# certificates: {{ .Values.certificates | toJson | sha256sum }}
{{ toYaml $policy }}
{{- end }}
