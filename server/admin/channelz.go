package admin

import (
	"net/http"
	"strconv"

	"google.golang.org/grpc"
	channelzv1 "google.golang.org/grpc/channelz/grpc_channelz_v1"
	channelz "google.golang.org/grpc/channelz/service"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// channelzPages shows what gRPC knows of its connections, as JSON. The service of that name is asked in place: on the API's own
// port it would need a role of its own, and tell one caller the addresses of all others.
type channelzPages struct{ service channelzv1.ChannelzServer }

func newChannelz() *channelzPages {
	p := new(channelzPages)
	channelz.RegisterChannelzServiceToServer(p)
	return p
}

// RegisterService implements [grpc.ServiceRegistrar], which is the library's only way to hand its service out.
func (p *channelzPages) RegisterService(_ *grpc.ServiceDesc, impl any) {
	p.service, _ = impl.(channelzv1.ChannelzServer)
}

// ServeHTTP implements [http.Handler].
func (p *channelzPages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	number := func(name string) int64 {
		n, _ := strconv.ParseInt(r.URL.Query().Get(name), 10, 64) // there is nothing of id 0
		return n
	}
	var found proto.Message
	var err error
	switch ctx := r.Context(); r.PathValue("what") {
	case "servers":
		found, err = p.service.GetServers(ctx, &channelzv1.GetServersRequest{StartServerId: number("from")})
	case "sockets":
		found, err = p.service.GetServerSockets(ctx, &channelzv1.GetServerSocketsRequest{ServerId: number("server"), StartSocketId: number("from")})
	case "socket":
		found, err = p.service.GetSocket(ctx, &channelzv1.GetSocketRequest{SocketId: number("id")})
	case "channels":
		found, err = p.service.GetTopChannels(ctx, &channelzv1.GetTopChannelsRequest{StartChannelId: number("from")})
	case "subchannel":
		found, err = p.service.GetSubchannel(ctx, &channelzv1.GetSubchannelRequest{SubchannelId: number("id")})
	default:
		answer(w, http.StatusNotFound, "there is: servers, sockets?server=ID, socket?id=ID, channels, subchannel?id=ID\n")
		return
	}
	if err != nil {
		answer(w, http.StatusNotFound, "there is nothing of that id\n")
		return
	}
	text, err := protojson.MarshalOptions{Multiline: true}.Marshal(found)
	if err != nil {
		answer(w, http.StatusInternalServerError, "it cannot be shown\n")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(text) // who has hung up is told nothing
}
