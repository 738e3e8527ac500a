// Package run carries out a plan.
package run
