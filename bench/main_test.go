package main

import (
	"testing"
)

func TestShortSetsOnlyWhatWasNotGiven(t *testing.T) {
	o, err := parse([]string{"-short", "-watches", "77"})
	if err != nil {
		t.Fatal(err)
	}
	if o.rounds != 1 || o.workloads.Watches != 77 || o.workloads.Requests >= 8000 {
		t.Errorf("got %+v", o)
	}
}

func TestWorksAreChosenByNameInTheirOrder(t *testing.T) {
	o, err := parse([]string{"-works", "get,start"})
	if err != nil {
		t.Fatal(err)
	}
	if len(o.works) != 2 || o.works[0].Name() != "start" || o.works[1].Name() != "get" {
		t.Errorf("got %v", o.works)
	}
	if all, err := parse(nil); err != nil || len(all.works) != len(workNames()) {
		t.Errorf("by default %v, %v", all.works, err)
	}
}

func TestBadFlagsAreRefused(t *testing.T) {
	for _, args := range [][]string{
		{"-works", "get,nothing"},
		{"-works", "get,get"},
		{"-works", ""},
		{"-rounds", "0"},
		{"-watches", "-1"},
		{"-apiservices", "1000"},
		{"extra"},
	} {
		if _, err := parse(args); err == nil {
			t.Errorf("%v was taken", args)
		}
	}
}
