// Package franz keeps franz-go in go.mod: its own tests are what is run, by their package's name.
package franz

import _ "github.com/twmb/franz-go/pkg/kgo"
