// The specification's own library as a runtime: what cnitool, which is in no package of Debian 12, does with it.
//
//	libcni ADD|CHECK|DEL|VALIDATE CONFLIST CONTAINER NETNS IFNAME
//
// CNI_PATH names the folders of the plugins, CACHE that of the results, CAPABILITIES the runtime's as JSON. ADD prints
// the result, as the library has understood it. An error goes to standard error, with its code.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
)

func run(verb, conflist string, runtime *libcni.RuntimeConf) error {
	if given := os.Getenv("CAPABILITIES"); given != "" {
		if err := json.Unmarshal([]byte(given), &runtime.CapabilityArgs); err != nil {
			return err
		}
	}
	list, err := libcni.ConfListFromFile(conflist)
	if err != nil {
		return err
	}
	plugins := libcni.NewCNIConfigWithCacheDir(filepath.SplitList(os.Getenv("CNI_PATH")), os.Getenv("CACHE"), nil)
	ctx := context.Background()
	switch verb {
	case "ADD":
		result, err := plugins.AddNetworkList(ctx, list, runtime)
		if err != nil {
			return err
		}
		return result.Print()
	case "CHECK":
		return plugins.CheckNetworkList(ctx, list, runtime)
	case "DEL":
		return plugins.DelNetworkList(ctx, list, runtime)
	case "VALIDATE":
		capabilities, err := plugins.ValidateNetworkList(ctx, list)
		fmt.Println(capabilities)
		return err
	}
	return fmt.Errorf("there is no verb %q", verb)
}

func main() {
	if len(os.Args) != 6 {
		fmt.Fprintln(os.Stderr, "usage: libcni VERB CONFLIST CONTAINER NETNS IFNAME")
		os.Exit(2)
	}
	runtime := &libcni.RuntimeConf{ContainerID: os.Args[3], NetNS: os.Args[4], IfName: os.Args[5]}
	if err := run(os.Args[1], os.Args[2], runtime); err != nil {
		var said *types.Error
		if errors.As(err, &said) {
			fmt.Fprintf(os.Stderr, "%d: %s\n", said.Code, said.Msg)
		} else {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(1)
	}
}
