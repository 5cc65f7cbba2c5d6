package extension

import (
	"errors"
	"fmt"

	genericapiserver "k8s.io/apiserver/pkg/server"
	apiserveroptions "k8s.io/apiserver/pkg/server/options"
)

// apply has requests audited, if that is configured.
func (a Audit) apply(config *genericapiserver.Config) error {
	if a.PolicyFile == "" {
		return nil
	}
	o := apiserveroptions.NewAuditOptions()
	o.PolicyFile, o.LogOptions.Path = a.PolicyFile, a.LogPath
	for value, into := range map[*int]*int{&a.MaxAge: &o.LogOptions.MaxAge, &a.MaxBackups: &o.LogOptions.MaxBackups, &a.MaxSize: &o.LogOptions.MaxSize} {
		if *value != 0 {
			*into = *value
		}
	}
	if err := errors.Join(o.Validate()...); err != nil {
		return fmt.Errorf("configuration: Audit: %w", err)
	}
	if err := o.ApplyTo(config); err != nil {
		return fmt.Errorf("configuration: Audit: %w", err)
	}
	return nil
}
